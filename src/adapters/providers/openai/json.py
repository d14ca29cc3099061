"""JSON as providers write it, and the repair of texts that are no valid Unicode."""

from __future__ import annotations

import json
from collections.abc import Hashable

import orjson

_FEW_BYTES = 256 * 1024
_MOST_VALUES = 200_000
_REPLACEMENT = "\ufffd"


def is_excessive(payload: bytes) -> bool:
    """Whether a JSON text may hold so many values that decoding it would hold up everything else.

    Counted are the bytes that stand before values, also those within strings.
    """
    if len(payload) <= _FEW_BYTES:
        return False
    return sum(map(payload.count, (b",", b"{", b"["))) > _MOST_VALUES


def loads(payload: bytes) -> object:
    """The value of a JSON text; None where it is no JSON, or holds too many values."""
    if is_excessive(payload):
        return None
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return lenient(payload)


def lenient(payload: bytes) -> object:
    """The value of a JSON text that orjson refuses: with half a surrogate pair as an escape, bytes
    that are no UTF-8, a control character in a string, or NaN. None where it is no JSON all the
    same."""
    try:
        text = payload.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = payload.decode("utf-8", "replace")
    try:
        return json.loads(text.removeprefix("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        return None


def shown(document: object) -> str:
    """`document` as JSON for a message or the log, whatever it holds."""
    try:
        return orjson.dumps(document).decode()
    except orjson.JSONEncodeError:  # Half a surrogate pair, a huge integer, or deep nesting.
        pass
    try:
        return repaired(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    except (ValueError, RecursionError):
        return ""


def repaired(text: str) -> str:
    """`text` with surrogate pairs joined, and U+FFFD in place of each half without the other."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class PairJoiner:
    """Repairs texts that come in pieces, of which each may end in the middle of a surrogate pair.

    A first half at the end of a piece is held back until the next piece of the same text, and
    becomes U+FFFD if that does not begin with the second half. `key` names the text.
    """

    def __init__(self) -> None:
        self.held: dict[Hashable, str] = {}
        """The first halves that wait for a second one, by the key of their text."""

    def join(self, key: Hashable, piece: str) -> str:
        """What can be passed on of the text now."""
        if not piece or (piece.isascii() and key not in self.held):
            return piece
        text = self.held.pop(key, "") + piece
        if "\ud800" <= text[-1] <= "\udbff":
            self.held[key] = text[-1]
            text = text[:-1]
        return repaired(text)

    def end(self) -> list[tuple[Hashable, str]]:
        """The end of each text whose last half stayed alone, with its key."""
        ends = [(key, _REPLACEMENT) for key in self.held]
        self.held.clear()
        return ends
