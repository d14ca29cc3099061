"""How much structure a JSON text may have, checked before a value is made of it and after.

A parser makes an object for each value, and holds the interpreter until it is done: a few megabytes
of brackets or of short keys would stop everything else for seconds. A long text, a picture in
base64 or a JSON text within a string are one value each, however long they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from itertools import islice
from math import isinf
from typing import NoReturn

import orjson

from ....domain.errors import InvalidRequest

MAX_VALUES = 250_000
"""Keys and values in a body. 10,000 messages with a call of a tool each have about half of them."""
MAX_KEYS = 1_000
"""Keys of one object."""
MAX_HALVES = 10_000
"""Halves of surrogate pairs in a body: to replace one takes as long as to read a thousand bytes."""

_STEP = 65_536
"""Bytes that are looked at in one go, which takes much less than a millisecond."""
_STRUCTURE = b",:[{"
_RAW_HALF = re.compile(rb"\xed[\xa0-\xbf]")
_HALF = re.compile("[\ud800-\udfff]")


def check_text(text: bytes, most: int = MAX_VALUES) -> None:
    """Refuse a JSON text with more than `most` keys and values. Raises InvalidRequest."""
    if len(text) > most and _more_at_a_glance(text, most) and _more_outside_strings(text, most):
        raise InvalidRequest(
            f"The JSON text has more than {most} keys and values, which is the limit."
        )


def check_value(value: object, text: bytes) -> None:
    """Refuse an object with more than MAX_KEYS keys anywhere in `value`, which `text` was read
    into. Raises InvalidRequest."""
    if text.count(b",", 0, _STEP) < MAX_KEYS and len(text) <= _STEP:
        return
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            if len(current) > MAX_KEYS:
                raise InvalidRequest(
                    f"An object in the JSON text has {len(current)} keys; the limit is {MAX_KEYS}."
                )
            pending += [item for item in current.values() if isinstance(item, dict | list)]
        elif isinstance(current, list):
            pending += [item for item in current if isinstance(item, dict | list)]


def check_raw_halves(text: bytes) -> None:
    """Refuse a text with too many halves of surrogate pairs, encoded as if they were characters.
    Raises InvalidRequest."""
    if _count(_RAW_HALF, text) > MAX_HALVES:
        raise _too_many_halves()


def count_halves(text: str, before: int) -> int:
    """How many halves there are in `text` and were `before` it. Raises InvalidRequest."""
    found = before + _count(_HALF, text)
    if found > MAX_HALVES:
        raise _too_many_halves()
    return found


def _count(pattern: re.Pattern[bytes] | re.Pattern[str], text: bytes | str) -> int:
    """Up to one more than the limit."""
    found = 0
    for start in range(0, len(text), _STEP):
        # A pattern of two bytes may begin in this window and end in the next.
        window = text[start : start + _STEP + 1]
        matches = pattern.finditer(window)  # type: ignore[arg-type]
        found += len(list(islice(matches, MAX_HALVES + 1)))
        if found > MAX_HALVES:
            break
    return found


def _too_many_halves() -> InvalidRequest:
    return InvalidRequest(
        f"The JSON text has more than {MAX_HALVES} halves of surrogate pairs, which is the limit: "
        "it was cut between two UTF-16 units, or is not text."
    )


def _more_at_a_glance(text: bytes, most: int) -> bool:
    """Whether there are more if characters within strings count too."""
    found = 1
    for start in range(0, len(text), _STEP):
        found += _structure(text[start : start + _STEP])
        if found > most:
            return True
    return False


def _more_outside_strings(text: bytes, most: int) -> bool:
    found, start, inside = 1, 0, 0
    while start < len(text):
        end = _after_escape(text, start + _STEP)
        # First the escaped backslashes: what is left of them belongs to the character behind it.
        plain = text[start:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = plain.split(b'"')
        found += _structure(b"".join(pieces[inside::2]))
        if found > most:
            return True
        inside = (inside + len(pieces) - 1) % 2
        start = end
    return False


def _after_escape(text: bytes, end: int) -> int:
    """`end`, or one more where it is between a backslash and the character that it escapes."""
    backslashes = 0
    while end > backslashes and text[end - backslashes - 1 : end - backslashes] == b"\\":
        backslashes += 1
    return end + backslashes % 2


def _structure(text: bytes) -> int:
    return len(text) - len(text.translate(None, _STRUCTURE))


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPES = (b"\\ud", b"\\uD")
"""How the escapes of surrogates begin."""
_EXACT = 19
"""Characters of an integer that always fits 64 bits."""
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
