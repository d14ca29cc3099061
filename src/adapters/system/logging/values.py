"""Converts values for the log: secrets are masked, sizes are bounded, text is encodable."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import islice

from ....domain.text import escape_line

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

MASK = "***"
MAX_TEXT = 32_768
"""Characters of one text."""
MAX_ITEMS = 100
"""Items of one list or mapping."""
MAX_DEPTH = 6

_SECRET_KEY = re.compile(
    r"(?:token|password|passwd|secret|authorization|api[_-]?key|cookie)\Z", re.IGNORECASE
)
_SECRETS_IN_TEXT = (
    # A required substring, whose search is much faster than the pattern's, and the pattern.
    ("bearer", re.compile(r"\b(bearer\s+)\S+", re.IGNORECASE)),
    (
        "=",
        re.compile(
            r"([?&](?:access_)?(?:token|password|secret|api_?key)=)[^&\s\"'<>]+", re.IGNORECASE
        ),
    ),
)


def is_secret_key(key: str) -> bool:
    """Whether a value under this key is a secret."""
    return _SECRET_KEY.search(key) is not None


def plain(value: object, *, key: str = "") -> Plain:
    """`value` as a JSON value of bounded size, masked if it or its `key` looks like a secret.

    Never raises, even if a method of the value does.
    """
    try:
        return _plain(value, key, MAX_DEPTH)
    except Exception:  # Logging must not fail: a value's methods may raise anything.
        return f"<{type(value).__name__} that cannot be shown>"


def masked(text: str) -> str:
    """`text` with credentials masked, cut at MAX_TEXT characters."""
    surplus = len(text) - MAX_TEXT
    if surplus > 0:
        text = f"{text[:MAX_TEXT]}... ({surplus} more characters)"
    lowered = text.lower()
    for word, pattern in _SECRETS_IN_TEXT:
        if word in lowered:
            text = pattern.sub(rf"\1{MASK}", text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def on_one_line(value: Plain) -> Plain:
    """`value` with control and format characters escaped, so that a client's text can neither
    forge a log line nor control the terminal."""
    match value:
        case str():
            return escape_line(value)
        case list():
            return [on_one_line(item) for item in value]
        case dict():
            return {str(on_one_line(key)): on_one_line(item) for key, item in value.items()}
        case _:
            return value


def _plain(value: object, key: str, depth: int) -> Plain:
    match value:
        case None | bool():
            return value
        case int():
            # Not masked: numbers are counts or times (`first_token`). JSON readers disagree beyond
            # 64 bits, and Python refuses to convert more than 4,300 digits to decimal.
            return int(value) if value.bit_length() < 64 else hex(value)[:MAX_TEXT]
        case float():
            return float(value) if math.isfinite(value) else repr(value)
        case _ if is_secret_key(key):
            return MASK
        case str():
            return masked(str.__str__(value))
        case bytes() | bytearray():
            return masked(value.decode("utf-8", "backslashreplace"))
        case Mapping() | list() | tuple() | set() | frozenset() if not depth:
            return "..."
        case Mapping():
            return _plain_mapping(value, depth)
        case list() | tuple() | set() | frozenset():
            return _with_remainder(
                [_plain(item, "", depth - 1) for item in _first(value)], len(value)
            )
        case _:
            return masked(repr(value))


def _plain_mapping(value: Mapping[object, object], depth: int) -> Plain:
    shown: dict[str, Plain] = {}
    for key in _first(value):
        name = masked(str(key))
        shown[name] = _plain(value[key], name, depth - 1)
    if len(value) > MAX_ITEMS:
        shown["..."] = f"{len(value) - MAX_ITEMS} more"
    return shown


def _with_remainder(shown: list[Plain], length: int) -> Plain:
    return shown if length <= MAX_ITEMS else [*shown, f"... ({length - MAX_ITEMS} more)"]


def _first(items: Iterable[object]) -> Iterable[object]:
    return islice(items, MAX_ITEMS)
