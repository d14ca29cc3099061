"""Reads the body of one answer from its connection and detects its format."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp

from ....domain.concurrency import drop_tracebacks
from ....domain.errors import ModelFailed
from .failures import FailureFactory

_MAX_BODY_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 16 * 1024
"""Bytes returned per `read`. The event loop runs other tasks between two pieces, even if the
provider sends faster than the answer is processed."""
_LEAST_PIECE_BYTES = 256
_MOST_LINES = 256
"""Approximate maximum of lines in a piece: the cost of small events is per event, not per byte."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EXCERPT_BYTES = 200


class Body:
    """Reads a body. An error of the connection ends the body and is stored in `failure`.

    `max_bytes`: of the decompressed body. `end_timeout`: seconds that the rest of the body may take
    once the answer is complete. `is_complete`: whether a body that is not an event stream is a
    complete answer.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        failures: FailureFactory,
        max_bytes: int,
        end_timeout: float,
        is_complete: Callable[[bytes], bool],
    ) -> None:
        self._response = response
        self._failures = failures
        self._left = max_bytes
        """Bytes that may still be read."""
        self._end_timeout = end_timeout
        self._is_complete = is_complete
        self._start = b""
        """The bytes read for the detection of the format, returned by the next `read`."""
        self._received = b""
        """The last bytes from the connection; those before `_place` have been returned."""
        self._place = 0
        self._deadline: float | None = None
        self.failure: ModelFailed | None = None
        self.abandoned = False
        """The body was not read to its end, so the connection cannot be reused."""

    @property
    def content_type(self) -> str:
        """The provider's content type, which is often wrong."""
        return self._response.headers.get("Content-Type", "")[:100]

    async def is_json(self) -> bool:
        """Whether the body is JSON rather than an event stream, by its first bytes. Raises
        ModelFailed for a web page and for an empty body."""
        start = b""
        while not (start := _without_blanks(start)) or _BYTE_ORDER_MARK.startswith(start):
            piece = await self.read()
            if not piece:
                break
            start += piece
        if not start:
            raise self.failure or self._unusable("its body is empty")
        if start.startswith(b"<"):
            excerpt = start[:_EXCERPT_BYTES].decode("utf-8", "replace")
            raise self._unusable(f"it is not {self._failures.api.answer}", excerpt)
        self._start = start
        return start.startswith((b"{", b"["))

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end, and after `end_timeout`."""
        if self._start:
            start, self._start = self._start, b""
            return start
        if self._place < len(self._received):
            await asyncio.sleep(0)
        elif self.failure is None:
            self._received, self._place = await self._receive(), 0
            if len(self._received) > self._left:
                self._received = self._received[: self._left]
                self.failure = self._failures.too_long()
                self.abandoned = True
            self._left -= len(self._received)
        place, self._place = self._place, _piece_end(self._received, self._place)
        return self._received[place : self._place]

    async def _receive(self) -> bytes:
        """The bytes that arrived since the last call."""
        content = self._response.content
        try:
            if self._deadline is None:
                return await content.readany()
            return await self._read_until(self._deadline)
        except (aiohttp.ClientError, OSError) as error:
            self.failure = self._failures.of_body(error)
            drop_tracebacks(error)  # The response stores the error; its frames refer to self.
        self.abandoned = True
        return _unread(content)

    def expect_end(self, *, again: bool) -> None:
        """Limit the rest of the body to `end_timeout`. `again`: restart a running timeout."""
        if again or self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._end_timeout

    async def read_all(self) -> bytes:
        """The whole body, or the part received before the connection broke.

        Some providers do not end the body after the JSON text. So whenever the received part ends
        with a bracket, the rest is awaited for `end_timeout` only; if nothing arrives and the part
        is a complete answer, it is returned.
        """
        body = bytearray()
        while True:
            piece = await self.read()
            body += piece
            if len(body) > _MAX_BODY_BYTES:
                raise self._failures.unusable("it is too long")
            if not piece:
                if not self.abandoned or self.failure or self._is_complete(bytes(body)):
                    return bytes(body)
                # It is not complete: wait again, with the idle timeout.
                self.abandoned = False
            self._deadline = None
            if piece.rstrip().endswith((b"}", b"]")):
                self.expect_end(again=True)

    async def _read_until(self, deadline: float) -> bytes:
        """Like `readany`, but empty after the deadline, even if data keeps arriving."""
        loop = asyncio.get_running_loop()
        timeout = asyncio.timeout_at(deadline)
        try:
            async with timeout:
                if loop.time() < deadline:
                    return await self._response.content.readany()
        except TimeoutError:
            if not timeout.expired():
                raise
        self.abandoned = True
        return b""

    def _unusable(self, problem: str, excerpt: str = "") -> ModelFailed:
        status = self._response.status
        problem = f"{problem} (content type: {self.content_type or 'none'}, status {status})"
        return self._failures.unusable(problem, excerpt)


def _piece_end(received: bytes, start: int) -> int:
    """The end of the piece that begins at `start`: after a complete event if possible."""
    end = start + _PIECE_BYTES
    lines = received.count(b"\n", start, end) + received.count(b"\r", start, end)
    if lines > _MOST_LINES:
        end = start + max(_LEAST_PIECE_BYTES, _PIECE_BYTES * _MOST_LINES // lines)
    if len(received) <= end:
        return len(received)
    event_end = received.rfind(b"\n\n", start, end)
    return end if event_end < 0 else event_end + 2


def _without_blanks(start: bytes) -> bytes:
    return start.lstrip().removeprefix(_BYTE_ORDER_MARK).lstrip()


def _unread(content: aiohttp.StreamReader) -> bytes:
    """The unread bytes that arrived before the connection broke; they may complete the answer.
    aiohttp would raise the stored error instead of returning them, so it is cleared."""
    content.set_exception(None)  # type: ignore[arg-type]  # The only public way to clear it.
    return content.read_nowait()
