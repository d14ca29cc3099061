"""Values on their way into the log: no secret, nothing endless, nothing that cannot be written."""

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
    # A word that must be there, searched for first since it is so much faster; and the pattern.
    ("bearer", re.compile(r"\b(bearer\s+)\S+", re.IGNORECASE)),
    (
        "=",
        re.compile(
            r"([?&](?:access_)?(?:token|password|secret|api_?key)=)[^&\s\"'<>]+", re.IGNORECASE
        ),
    ),
)


def tells_secret(key: str) -> bool:
    """Whether what has that name is a secret."""
    return _SECRET_KEY.search(key) is not None


def plain(value: object, *, key: str = "") -> Plain:
    """`value` as JSON knows it, short enough, and masked where it, or its `key`, tells a secret.

    Never raises, whatever the value does when it is looked at.
    """
    try:
        return _plain(value, key, MAX_DEPTH)
    except Exception:  # The edge of logging: a value that cannot be told must not fail its teller.
        return f"<{type(value).__name__} that cannot be shown>"


def masked(text: str) -> str:
    """`text` with what looks like a credential replaced, and cut at MAX_TEXT characters."""
    surplus = len(text) - MAX_TEXT
    if surplus > 0:
        text = f"{text[:MAX_TEXT]}... ({surplus} more characters)"
    lowered = text.lower()
    for word, pattern in _SECRETS_IN_TEXT:
        if word in lowered:
            text = pattern.sub(rf"\1{MASK}", text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def on_one_line(value: Plain) -> Plain:
    """`value` with control and format characters escaped: no client writes lines of our log, or
    steers the terminal that shows it."""
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
            # A number is no secret but a time or a count, as `first_token` is. Past 64 bits JSON
            # readers differ, and past 4,300 digits Python refuses.
            return int(value) if value.bit_length() < 64 else hex(value)[:MAX_TEXT]
        case float():
            return float(value) if math.isfinite(value) else repr(value)
        case _ if tells_secret(key):
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
            return _shortened([_plain(item, "", depth - 1) for item in _first(value)], len(value))
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


def _shortened(shown: list[Plain], length: int) -> Plain:
    return shown if length <= MAX_ITEMS else [*shown, f"... ({length - MAX_ITEMS} more)"]


def _first(items: Iterable[object]) -> Iterable[object]:
    return islice(items, MAX_ITEMS)
