"""Keys of compatible files that have no effect here: the table in `inert.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

StarPath = tuple[str, ...]
"""A path with `*` for a record's keys and for positions in lists."""

_LISTED, _NAMED = ("agents", "list"), ("agents", "entries")


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
        path = tuple(name.split("."))
        yield path, inert
        if path[:2] == _LISTED:
            yield (*_NAMED, *path[2:]), inert
        if path[0] == "tools":
            yield (*_LISTED, "*", *path), inert
            yield (*_NAMED, "*", *path), inert


INERT: Mapping[StarPath, Inert] = MappingProxyType(dict(_rows()))
