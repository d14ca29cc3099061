"""Collects the frames of one message up to a maximum size."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO, StringIO
from typing import Any

from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer
from wsproto.events import Message, TextMessage

from ....adapters.transports.control.protocol import BEGINNING

_LEAST_FRAGMENT = 64


class ByteCounter(WebsocketBuffer):
    """hypercorn's buffer of one message, with a variable limit in bytes."""

    def __init__(self, limit: Callable[[], int]) -> None:
        super().__init__(0)
        self._limit = limit
        self._frame = 0
        self._cut = False

    def extend(self, event: Message[Any]) -> None:
        """Append a frame. Beyond the limit, raise FrameTooLargeError and discard the message.

        A fragment counts at least `_LEAST_FRAGMENT` bytes.
        """
        size = size_of(event.data)
        self.length += size
        self._frame += size
        if event.frame_finished:
            self.length += 0 if event.message_finished else max(0, _LEAST_FRAGMENT - self._frame)
            self._frame = 0
        if self.length > self._limit():
            self._frame = 0
            self.clear()
            raise FrameTooLargeError
        if self.value is None:
            self.value = StringIO() if isinstance(event, TextMessage) else BytesIO()
        if not self._cut:
            self.value.write(event.data)

    def cut(self) -> None:
        """Keep only the beginning of the message; the rest is counted and discarded."""
        if self.value is not None and not self._cut:
            self.value.truncate(BEGINNING)
            self._cut = True

    def clear(self) -> None:
        super().clear()
        self._cut = False


def size_of(data: str | bytes) -> int:
    """Bytes on the wire."""
    if isinstance(data, str) and not data.isascii():
        return len(data.encode())
    return len(data)
