"""Counts the frames in a stream of HTTP/2 bytes, before they are parsed."""

from __future__ import annotations

from collections.abc import Iterator

from ....adapters.transports.control.protocol import SMALL_FRAME
from .pacing import TURN

_PREFACE = 24
_HEAD = 9
DATA, RST_STREAM, SETTINGS = 0, 3, 4
_RESET_PRICE = 16
"""A stream that is opened and reset costs a whole request."""
_PAIRS_PER_TOKEN = 10


class FrameCounter:
    """Divides what arrives into pieces of at most `TURN` frames, each with its price.

    https://www.rfc-editor.org/rfc/rfc9113#section-4.1: a frame begins with the 24 bits of its
    payload's length and the 8 bits of its type.
    """

    def __init__(self) -> None:
        self._left = _PREFACE
        """Bytes until the next frame begins."""
        self._head = b""

    def pieces(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """The pieces of `data` and the tokens that the frames beginning in them cost."""
        start = at = frames = price = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                at, self._left = at + step, self._left - step
                continue
            missing = _HEAD - len(self._head)
            self._head += data[at : at + missing]
            at = min(at + missing, len(data))
            if len(self._head) == _HEAD:
                price += self._begin()
                frames += 1
            if frames == TURN:
                yield data[start:at], price
                start, frames, price = at, 0, 0
        if start < len(data):
            yield data[start:], price

    def _begin(self) -> int:
        """Enter the frame whose head is complete; its price."""
        size, kind = int.from_bytes(self._head[:3]), self._head[3]
        self._left, self._head = size, b""
        if kind == DATA:
            return int(size < SMALL_FRAME)
        if kind == RST_STREAM:
            return _RESET_PRICE
        if kind == SETTINGS:
            return 1 + size // (6 * _PAIRS_PER_TOKEN)
        return 1 + size // SMALL_FRAME
