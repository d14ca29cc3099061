"""JSON text in and out, as strict as the standard and as fast as orjson."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from typing import NoReturn

import orjson

from ....domain.errors import InvalidRequest

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HALVES = re.compile(rb"\\u[dD]|\xed[\xa0-\xbf]")
"""A surrogate as an escape, or encoded as if it were a character."""


def dumps(value: object) -> bytes:
    """JSON text. Lone surrogates, which UTF-8 cannot hold, are written as escapes."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def loads(text: bytes, *, identifiers: Set[str] = frozenset()) -> object:
    """The value of a JSON text; of two equal keys in an object the last one counts.

    Half a surrogate pair, which clients make by cutting a text between two UTF-16 units, becomes
    U+FFFD. It stays as it is in the values of the keys `identifiers`, which are compared, and must
    not become equal to others: readers of these refuse it. Raises InvalidRequest that says where
    the text is wrong. NaN and Infinity are wrong.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # orjson refuses lone surrogates; JSON allows their escapes, and clients do send them.
        if not _HALVES.search(text):
            raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    return _patient_loads(text, identifiers)


def _mended(value: object, identifiers: Set[str]) -> object:
    """`value`, changed in place, without halves of surrogate pairs but in `identifiers`."""
    match value:
        case str():
            return _mended_text(value)
        case list():
            value[:] = [_mended(item, identifiers) for item in value]
        case dict():
            items = list(value.items())
            value.clear()
            for key, item in items:
                kept = item if key in identifiers else _mended(item, identifiers)
                value[_mended_text(key)] = kept
    return value


def _mended_text(text: str) -> str:
    if text.isascii():
        return text
    # Two halves that meet are joined on the way.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _patient_loads(text: bytes, identifiers: Set[str]) -> object:
    try:
        decoded = text.decode("utf-8", "surrogatepass")
        return _mended(json.loads(decoded, parse_constant=_no_constant), identifiers)
    except RecursionError:
        raise InvalidRequest("The body is not valid JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
