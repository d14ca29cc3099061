"""JSON text in and out, as strict as the standard and as fast as orjson."""

from __future__ import annotations

import json
import re
from collections.abc import Set
from math import isinf
from typing import NoReturn

import orjson

from ....domain.errors import InvalidRequest
from .json_bounds import MAX_VALUES, check_raw_halves, check_text, check_value, count_halves

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPES = (b"\\ud", b"\\uD")
"""How the escapes of surrogates begin."""
_EXACT = 19
"""Characters of an integer that always fits 64 bits."""
_RAW_HALF = re.compile(rb"\xed[\xa0-\xbf]")
"""A surrogate that is encoded as if it were a character."""


def dumps(value: object) -> bytes:
    """JSON text. Lone surrogates, which UTF-8 cannot hold, are written as escapes."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def read_bounded(
    text: bytes, *, identifiers: Set[str] = frozenset(), most: int = MAX_VALUES
) -> object:
    """The same as `loads`, for a text from outside: with at most `most` keys and values, and
    MAX_KEYS keys in each object. Raises InvalidRequest."""
    check_text(text, most)
    value = loads(text, identifiers=identifiers)
    check_value(value, text)
    return value


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
        if not _may_hold_halves(text):
            raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    return _patient_loads(text, identifiers)


def _may_hold_halves(text: bytes) -> bool:
    return any(escape in text for escape in _ESCAPES) or _RAW_HALF.search(text) is not None


class _Mender:
    """Replaces halves of surrogate pairs in a value, but in the values of `identifiers`."""

    def __init__(self, identifiers: Set[str]) -> None:
        self._identifiers = identifiers
        self._halves = 0

    def mended(self, value: object) -> object:
        """`value`, changed in place. Raises InvalidRequest where there are too many halves."""
        match value:
            case str():
                return self._text(value)
            case list():
                value[:] = [self.mended(item) for item in value]
            case dict():
                items = list(value.items())
                value.clear()
                for key, item in items:
                    kept = item if key in self._identifiers else self.mended(item)
                    value[self._text(key)] = kept
        return value

    def _text(self, text: str) -> str:
        if text.isascii():
            return text
        self._halves = count_halves(text, self._halves)
        # Two halves that meet are joined on the way.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _patient_loads(text: bytes, identifiers: Set[str]) -> object:
    check_raw_halves(text)
    try:
        decoded = text.decode("utf-8", "surrogatepass")
        value = json.loads(
            decoded, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
        )
        return _Mender(identifiers).mended(value)
    except RecursionError:
        raise InvalidRequest("The body is not valid JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None


def _integer(digits: str) -> int | float:
    """As orjson has it: what 64 bits cannot hold is a float. To read an integer of thousands of
    digits takes the square of their number."""
    return int(digits) if len(digits) <= _EXACT else _finite(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError("a number is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
