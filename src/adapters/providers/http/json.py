"""Lenient JSON decoding, and the repair of text with lone surrogates."""

from __future__ import annotations

import json
from collections.abc import Hashable

import orjson

_UNCHECKED_BYTES = 256 * 1024
_MAX_VALUES = 200_000
_REPLACEMENT = "\ufffd"


def is_excessive(payload: bytes) -> bool:
    """Whether a JSON text may have so many values that decoding would block the event loop.

    Counts the bytes that precede values, including those within strings.
    """
    if len(payload) <= _UNCHECKED_BYTES:
        return False
    return sum(map(payload.count, (b",", b"{", b"["))) > _MAX_VALUES


def loads(payload: bytes) -> object:
    """The value of a JSON text; None if it is invalid or has too many values."""
    if is_excessive(payload):
        return None
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return lenient(payload)


def lenient(payload: bytes) -> object:
    """The value of a JSON text that orjson rejects because of a lone surrogate, invalid UTF-8, a
    control character in a string, or NaN. None if it is not JSON."""
    try:
        text = payload.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = payload.decode("utf-8", "replace")
    try:
        return json.loads(text.removeprefix("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        return None


def shown(document: object) -> str:
    """`document` as JSON for a message or the log; empty if it cannot be encoded."""
    try:
        return orjson.dumps(document).decode()
    except orjson.JSONEncodeError:  # A lone surrogate, a huge integer, or deep nesting.
        pass
    try:
        return repaired(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    except (ValueError, RecursionError):
        return ""


def repaired(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class PairJoiner:
    """Repairs texts whose pieces may be cut within a surrogate pair.

    A leading surrogate at the end of a piece is held back until the next piece of the same text,
    and replaced by U+FFFD if that piece does not begin with a trailing one. `key` identifies the
    text.
    """

    def __init__(self) -> None:
        self.held: dict[Hashable, str] = {}
        """The leading surrogates held back, by the key of their text."""

    def join(self, key: Hashable, piece: str) -> str:
        """The text that is complete now."""
        if not piece or (piece.isascii() and key not in self.held):
            return piece
        text = self.held.pop(key, "") + piece
        if "\ud800" <= text[-1] <= "\udbff":
            self.held[key] = text[-1]
            text = text[:-1]
        return repaired(text)

    def end(self) -> list[tuple[Hashable, str]]:
        """The replacement of every surrogate still held back, with its key."""
        ends = [(key, _REPLACEMENT) for key in self.held]
        self.held.clear()
        return ends
