"""How much structure a JSON text may have, checked before a value is made of it and after.

A parser makes an object for each value, and holds the interpreter until it is done: a few megabytes
of brackets or of short keys would stop everything else for seconds. A long text, a picture in
base64 or a JSON text within a string are one value each, however long they are.
"""

from __future__ import annotations

import re
from itertools import islice

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
    """Whether there are more, also counting what may stand within strings."""
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
