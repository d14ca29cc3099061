"""The bounded queue of frames to one client."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from ...http.json_text import dumps
from ..protocol import ErrorShape

MAX_BUFFERED = 16 * 1024 * 1024
"""Bytes that may be queued for a client; several times the longest response, a page of history."""
_LOSSY_FROM = 1024 * 1024
"""Queued bytes above which lossy events are dropped."""
_ENVELOPE = 128
"""Approximate bytes of an event frame besides its payload."""


class _QueuedFrame(NamedTuple):
    """A frame, or the parts of an event frame. Event frames are built when they are sent, so that
    all connections share one payload."""

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
    """A queue of frames with two bounds, in bytes of queued frames.

    Above `_LOSSY_FROM` lossy events are dropped, `lags` is true, and `drained` blocks. Above
    `limit` a frame that must arrive cannot be queued: `overflow` is set, after which the
    connection is closed and further frames are ignored. A dropped event takes a sequence number,
    so that the client sees the gap.
    """

    def __init__(self, limit: int = MAX_BUFFERED) -> None:
        self._limit = limit
        self._lossy_from = min(_LOSSY_FROM, limit)
        self._frames: deque[_QueuedFrame] = deque()
        self._size = 0
        self._seq = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._finishing = False
        self.overflow = asyncio.Event()

    def put(self, frame: bytes) -> None:
        """Queue a frame that must arrive; sets `overflow` if there is no room."""
        self._add(_QueuedFrame(frame, len(frame)))

    def event(
        self, name: str, payload: bytes, *, may_be_lost: bool = False, state: bytes = b""
    ) -> None:
        """Queue an event, or drop it if it is lossy and the client is slow."""
        self._seq += 1
        size = len(payload) + _ENVELOPE
        if may_be_lost and self._size + size > self._lossy_from:
            return
        self._add(_QueuedFrame(payload, size, name, self._seq, state))

    async def take(self) -> str:
        """Wait for the next frame; empty after `finish` when the queue is empty."""
        while not self._frames:
            if self._finishing:
                return ""
            self._filled.clear()
            await self._filled.wait()
        frame = self._frames.popleft()
        self._size -= frame.size
        if self._size <= self._lossy_from:
            self._drained.set()
        return frame.text()

    def finish(self) -> None:
        """Let `take` return an empty text once the queue is empty."""
        self._finishing = True
        self._filled.set()

    @property
    def lags(self) -> bool:
        """Whether more than `_LOSSY_FROM` bytes are queued."""
        return not self._drained.is_set()

    async def drained(self) -> None:
        """Wait until at most `_LOSSY_FROM` bytes are queued, for senders that can wait."""
        await self._drained.wait()

    def __len__(self) -> int:
        """The number of queued frames."""
        return len(self._frames)

    def _add(self, frame: _QueuedFrame) -> None:
        if self._size + frame.size > self._limit:
            self.overflow.set()
        if self.overflow.is_set():
            return
        self._frames.append(frame)
        self._size += frame.size
        if self._size > self._lossy_from:
            self._drained.clear()
        self._filled.set()


def event_frame(name: str, payload: bytes, *, seq: int | None = None, state: bytes = b"") -> bytes:
    """An event frame around an encoded payload."""
    numbered = b"" if seq is None else b',"seq":%d' % seq
    versions = b',"stateVersion":' + state if state else b""
    return b'{"type":"event","event":"%b","payload":%b%b%b}' % (
        name.encode(),
        payload,
        numbered,
        versions,
    )


def response_frame(request_id: str, payload: object) -> bytes:
    """A successful response."""
    return _with_payload({"type": "res", "id": request_id, "ok": True}, payload)


def error_frame(request_id: str, error: ErrorShape, payload: object | None = None) -> bytes:
    """An error response."""
    fields = error.model_dump(by_alias=True, exclude_none=True)
    head = {"type": "res", "id": request_id, "ok": False, "error": fields}
    return dumps(head) if payload is None else _with_payload(head, payload)


def _with_payload(head: dict[str, object], payload: object) -> bytes:
    return dumps(head)[:-1] + b',"payload":' + dumps(payload) + b"}"
