"""What waits to be sent to one client: bounded, so that a slow one costs nobody else anything."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from ...http.json_text import dumps

MAX_BUFFERED = 16 * 1024 * 1024
"""Bytes that may wait for a client. The longest answer, a page of history, fits several times."""
_LOSSY_FROM = 1024 * 1024
"""Bytes from which on events that may be lost are lost."""


_ENVELOPE = 128
"""Bytes of an event's frame around its payload, about."""


class _Waiting(NamedTuple):
    """A frame, or what an event's frame is made of when it is sent: the payload is shared by
    everybody who is told."""

    payload: bytes
    size: int
    name: str | None = None
    seq: int = 0
    state: bytes = b""

    def text(self) -> str:
        if self.name is None:
            return self.payload.decode()
        return event_frame(self.name, self.payload, seq=self.seq, state=self.state).decode()


class Outbox:
    """Frames in order. `overflow` is set once a frame found no room that had to be sent."""

    def __init__(self, limit: int = MAX_BUFFERED) -> None:
        self._limit = limit
        self._lossy_from = min(_LOSSY_FROM, limit)
        self._waiting: deque[_Waiting] = deque()
        self._size = 0
        self._seq = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._finishing = False
        self.overflow = asyncio.Event()

    def put(self, frame: bytes) -> None:
        """Queue a frame that must arrive. Where there is no room the client is too slow."""
        self._add(_Waiting(frame, len(frame)))

    def event(
        self, name: str, payload: bytes, *, may_be_lost: bool = False, state: bytes = b""
    ) -> None:
        """Queue an event. One that is lost takes a number all the same: the gap tells."""
        self._seq += 1
        size = len(payload) + _ENVELOPE
        if may_be_lost and self._size + size > self._lossy_from:
            return
        self._add(_Waiting(payload, size, name, self._seq, state))

    async def take(self) -> str:
        """The next frame, once there is one; empty when nothing waits and nothing will follow."""
        while not self._waiting:
            if self._finishing:
                return ""
            self._filled.clear()
            await self._filled.wait()
        waiting = self._waiting.popleft()
        self._size -= waiting.size
        if self._size <= self._lossy_from:
            self._room.set()
        return waiting.text()

    def finish(self) -> None:
        """Nothing that counts will follow what waits."""
        self._finishing = True
        self._filled.set()

    @property
    def lags(self) -> bool:
        """Whether much waits."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Return once not much waits: for those who can wait where others would lose."""
        await self._room.wait()

    def __len__(self) -> int:
        """Frames that wait."""
        return len(self._waiting)

    def _add(self, waiting: _Waiting) -> None:
        if self._size + waiting.size > self._limit:
            self.overflow.set()
        if self.overflow.is_set():
            return
        self._waiting.append(waiting)
        self._size += waiting.size
        if self._size > self._lossy_from:
            self._room.clear()
        self._filled.set()


def event_frame(name: str, payload: bytes, *, seq: int | None = None, state: bytes = b"") -> bytes:
    """An event frame around a payload that is JSON already, which many clients share."""
    numbered = b"" if seq is None else b',"seq":%d' % seq
    versions = b',"stateVersion":' + state if state else b""
    return b'{"type":"event","event":"%b","payload":%b%b%b}' % (
        name.encode(),
        payload,
        numbered,
        versions,
    )


def response_frame(request_id: str, payload: object) -> bytes:
    """The answer to a request that went well."""
    head = {"type": "res", "id": request_id, "ok": True}
    return _with(head, b"payload", dumps(payload))


def error_frame(request_id: str, error: dict[str, object], payload: object | None = None) -> bytes:
    """The answer to a request that did not."""
    head: dict[str, object] = {"type": "res", "id": request_id, "ok": False, "error": error}
    return dumps(head) if payload is None else _with(head, b"payload", dumps(payload))


def _with(head: dict[str, object], name: bytes, value: bytes) -> bytes:
    return dumps(head)[:-1] + b',"' + name + b'":' + value + b"}"
