"""The keys of a configuration that concern one process, where several are one Gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from .errors import KeyPath
from .read import canonical

NODE_KEYS: Final[tuple[KeyPath, ...]] = (
    ("store",),
    ("node",),
    ("gateway", "port"),
    ("gateway", "bind"),
    ("gateway", "customBindHost"),
    ("gateway", "tls"),
    ("logging", "file"),
)


def without(value: object, paths: tuple[KeyPath, ...]) -> object:
    """A copy of plain data without the values at these paths, and without objects that have nothing
    else."""
    if not isinstance(value, Mapping):
        return value
    kept = {}
    for key, item in value.items():
        below = tuple(path[1:] for path in paths if path[0] == key)
        if () in below:
            continue
        rest = without(item, below) if below else item
        if rest or rest == item:
            kept[key] = rest
    return kept


def digest(value: object) -> str:
    """Names the configuration that processes share: equal if it is, wherever its files are and
    however they are written."""
    return hashlib.sha256(canonical(without(value, NODE_KEYS)).encode()).hexdigest()[:16]
