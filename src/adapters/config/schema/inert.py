"""Keys of compatible files that have no effect here: the table in `inert.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

StarPath = tuple[str, ...]
"""A path with `*` for a record's keys and for positions in lists."""


@dataclass(frozen=True, slots=True)
class Inert:
    """A row of the table, which describes its columns."""

    meaning: str
    note: str = ""
    silent: bool = False
    remote: bool = False


def _rows() -> Iterator[tuple[StarPath, Inert]]:
    table = tomllib.loads(files(__package__).joinpath("inert.toml").read_text("utf-8"))
    for name, row in table.items():
        inert = Inert(row) if isinstance(row, str) else Inert(**row)
        prefix, found, rest = name.partition("agents.list.")
        yield tuple(name.split(".")), inert
        if found and not prefix:
            yield ("agents", "entries", *rest.split(".")), inert


INERT: Mapping[StarPath, Inert] = MappingProxyType(dict(_rows()))
