"""Reads fields of JSON values and says precisely what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....domain.errors import InvalidRequest

_LONGEST_SHOWN = 40


def kind_of(value: object) -> str:
    """What a JSON value is, for a person. Short scalars are shown."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            shown = str(value)
            return shown if len(shown) <= _LONGEST_SHOWN else "a number"
        case str():
            return repr(value) if len(value) <= _LONGEST_SHOWN else "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def wrong(path: str, expected: str, value: object) -> InvalidRequest:
    """The error for a value at `path` that is not what is expected there."""
    return InvalidRequest(f"`{path}` must be {expected}, not {kind_of(value)}.", param=path)


def an_object(value: object, path: str) -> dict[str, Any]:
    """`value`, which must be an object."""
    if not isinstance(value, dict):
        raise wrong(path, "an object", value)
    return value


def a_list(value: object, path: str, most: int) -> list[object]:
    """`value`, which must be a list with `most` items at most."""
    if not isinstance(value, list):
        raise wrong(path, "a list", value)
    if len(value) > most:
        raise InvalidRequest(f"`{path}` has {len(value)} items; the limit is {most}.", param=path)
    return value


def integral(value: Any) -> Any:
    """`value`, but an int for a float such as 16.0: languages without integers write that."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def a_string(fields: Mapping[str, Any], name: str, path: str, kind: str = "a string") -> str:
    """The string `name` of the object at `path`."""
    value = fields.get(name)
    if isinstance(value, str):
        return value
    path = f"{path}.{name}"
    if name not in fields:
        raise InvalidRequest(f"`{path}` is missing; it must be a string.", param=path)
    raise wrong(path, kind, value)


def optional_string(fields: Mapping[str, Any], name: str, path: str) -> str | None:
    """The same; None where it is left out, or null."""
    if fields.get(name) is None:
        return None
    return a_string(fields, name, path, "a string or null")


class Ignored:
    """The unknown fields of a request, which an answer's header names."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def note(self, fields: Mapping[str, Any], known: frozenset[str], place: str = "") -> None:
        """Remember the fields that are not `known` at `place`, unless they are null or empty."""
        for name in fields.keys() - known:
            if fields[name] is not None and fields[name] not in ([], {}):
                self._names.setdefault(place + name[: _LONGEST_NAME + 1])

    @property
    def header(self) -> str:
        """The names as a header's value: sorted, plain ASCII, bounded."""
        names = sorted(self._names)
        shown = [plain(name) for name in names[:_MOST_NAMES]]
        if len(names) > _MOST_NAMES:
            shown.append(f"and {len(names) - _MOST_NAMES} more")
        return ", ".join(shown)


_MOST_NAMES = 20
_LONGEST_NAME = 64


def plain(name: str) -> str:
    """A name that a client chose, as a part of a header's value."""
    # Cut first: it may have millions of characters.
    shown = name[:_LONGEST_NAME]
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-[]") else "?" for c in shown)
    return plain if len(name) <= _LONGEST_NAME else plain + "..."
