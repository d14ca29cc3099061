"""Showing a configuration without giving its secrets away."""

from __future__ import annotations

import re
from typing import Any

from .documents import Node
from .includes import INCLUDE
from .issues import KeyPath
from .loading import Loaded
from .schema import Root
from .schema.walk import Shape, below, mark

REDACTED = "__OPENSOUL_REDACTED__"

_SECRET_NAME = re.compile(
    r".*(token|password|passwd|pwd|passphrase|secret|authorization|cookie|credential|bearer|jwt"
    r"|(api|private|access|account|signing|encryption|master)key(id)?|webhookurl)s?"
)
_SECRETS_BELOW = frozenset(("env", "environment", "headers", "extraheaders"))
"""Names of what programs and calls are given, under names of their own."""
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_KEY_IN_URL = re.compile(
    r"([?&#;][^=&\s]*(?:key|token|secret|password|auth|sig|signature)=)[^&#\s]+", re.IGNORECASE
)


def redacted(loaded: Loaded) -> dict[str, Any]:
    """The configuration in force, defaults included, with secrets replaced by REDACTED.

    Secret are the strings at keys that the schema marks, or whose name says so. Other strings
    that name variables are shown as they are written.
    """
    dump = loaded.config.model_dump(by_alias=True, exclude_none=True)
    shown: dict[str, Any] = _shown(dump, (), Shape("object", model=Root), loaded.tree)
    return shown


def redacted_value(value: object) -> object:
    """What a configuration file holds, as it is written, with secrets replaced by REDACTED."""
    return _shown(value, (), Shape("object", model=Root), Node({}, "", ()))


def _shown(value: Any, path: KeyPath, shape: Shape | None, tree: Node) -> Any:
    match value:
        case dict():
            return {key: _member(item, (*path, key), shape, tree) for key, item in value.items()}
        case list():
            found = below(shape, 0) if shape is not None else None
            inner = found[0] if found is not None else None
            return [_shown(item, (*path, i), inner, tree) for i, item in enumerate(value)]
        case str():
            node, rest = tree.at(path)
            return node.written if node.written is not None and not rest else _without_keys(value)
        case _:
            return value


def _member(value: Any, path: KeyPath, shape: Shape | None, tree: Node) -> Any:
    key = path[-1]
    found = below(shape, key) if shape is not None else None
    inner, field = found if found is not None else (None, None)
    if (field is not None and mark(field, "x-secret")) or _sounds_secret(str(key)):
        return _hidden(value)
    return _shown(value, path, inner, tree)


def _hidden(value: Any) -> Any:
    """Every string in `value` replaced; numbers and the like are no secrets."""
    match value:
        case dict():
            # Where secrets are included from is none.
            return {key: item if key == INCLUDE else _hidden(item) for key, item in value.items()}
        case list():
            return [_hidden(item) for item in value]
        case str():
            return REDACTED
        case _:
            return value


def _sounds_secret(key: str) -> bool:
    name = re.sub(r"[^a-z]", "", key.lower())
    return name in _SECRETS_BELOW or _SECRET_NAME.fullmatch(name) is not None


def _without_keys(text: str) -> str:
    return _KEY_IN_URL.sub(rf"\g<1>{REDACTED}", _USER_IN_URL.sub(REDACTED, text))
