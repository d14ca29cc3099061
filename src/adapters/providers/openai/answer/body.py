"""The body of one answer, read from its connection; its format is recognised by its first bytes."""

from __future__ import annotations

import asyncio

import aiohttp

from .....domain.concurrency import drop_tracebacks
from .....domain.errors import ModelFailed
from .....domain.models import Provider
from .. import json as openai_json
from ..failures import FailureFactory
from ..http import why_broken
from . import fields as fields

_MAX_BODY_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 16 * 1024
"""What is read at once. Between two such pieces the event loop gets to its other tasks, however
fast the provider sends."""
_LEAST_PIECE_BYTES = 256
_MOST_LINES = 256
"""About as many lines are in one piece: events of a few bytes take longer than their size tells."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EXCERPT_BYTES = 200


class Body:
    """Reads a body. What goes wrong with the connection is kept in `failure`, and ends the body.

    `provider` limits the body's silence, and its size after decompression: what is beyond that is
    not read. `end_timeout` is in seconds: how long the rest of an answer may take once it is
    complete.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        failures: FailureFactory,
        provider: Provider,
        end_timeout: float,
    ) -> None:
        self._response = response
        self._failures = failures
        self._idle_timeout = provider.idle_timeout
        self._left = provider.max_answer_bytes
        """Bytes that the rest of the body may have."""
        self._end_timeout = end_timeout
        self._start = b""
        """What was read to recognise the format."""
        self._received = b""
        """What came from the connection, of which the part before `_place` was read."""
        self._place = 0
        self._deadline: float | None = None
        self.failure: ModelFailed | None = None
        self.abandoned = False
        """The rest was not waited for: the connection cannot be used again."""

    @property
    def content_type(self) -> str:
        """As the provider labels the body; many labels are wrong."""
        return self._response.headers.get("Content-Type", "")[:100]

    async def is_json(self) -> bool:
        """Whether the body is JSON; False: an event stream. Raises ModelFailed for a web page, and
        for a body without content."""
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
            raise self._unusable("it is no chat completion", excerpt)
        self._start = start
        return start.startswith((b"{", b"["))

    async def read(self) -> bytes:
        """The next piece of the body, at least one byte; empty at the end of the body, and when it
        is not waited for any longer."""
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
        """What has come since the last call."""
        content = self._response.content
        try:
            if self._deadline is None:
                return await content.readany()
            return await self._read_until(self._deadline)
        except TimeoutError:
            self.failure = self._failures.silent(self._idle_timeout)
        except (aiohttp.ClientError, OSError) as error:
            self.failure = self._failures.unusable(why_broken(error), str(error))
            drop_tracebacks(error)  # The response keeps the error, and its frames refer to this.
        self.abandoned = True
        return _left_in(content)

    def expect_end(self, *, again: bool) -> None:
        """Wait no longer than `end_timeout` for all that follows. `again`: count from now, also
        when the end was expected before."""
        if again or self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._end_timeout

    async def read_all(self) -> bytes:
        """The whole body, or what came of it before the connection broke. A JSON text that is
        complete is one, also if the provider does not end the body behind it; so are lines of JSON
        of which one of the last two has the finish reason."""
        body = bytearray()
        while True:
            piece = await self.read()
            body += piece
            if len(body) > _MAX_BODY_BYTES:
                raise self._failures.unusable("it is too long")
            if not piece:
                if not self.abandoned or self.failure or _is_answer(bytes(body)):
                    return bytes(body)
                # It only looked complete.
                self.abandoned = False
            self._deadline = None
            if piece.rstrip().endswith((b"}", b"]")):
                self.expect_end(again=True)

    async def _read_until(self, deadline: float) -> bytes:
        """The same as `readany`; empty past the deadline, also if the provider goes on sending."""
        loop = asyncio.get_running_loop()
        waiting = asyncio.timeout_at(deadline)
        try:
            async with waiting:
                if loop.time() < deadline:
                    return await self._response.content.readany()
        except TimeoutError:
            if not waiting.expired():
                raise
        self.abandoned = True
        return b""

    def _unusable(self, problem: str, excerpt: str = "") -> ModelFailed:
        status = self._response.status
        problem = f"{problem} (content type: {self.content_type or 'none'}, status {status})"
        return self._failures.unusable(problem, excerpt)


def _piece_end(received: bytes, start: int) -> int:
    """Where the piece that begins at `start` ends: behind a whole event, if it can be."""
    end = start + _PIECE_BYTES
    lines = received.count(b"\n", start, end) + received.count(b"\r", start, end)
    if lines > _MOST_LINES:
        end = start + max(_LEAST_PIECE_BYTES, _PIECE_BYTES * _MOST_LINES // lines)
    if len(received) <= end:
        return len(received)
    event_end = received.rfind(b"\n\n", start, end)
    return end if event_end < 0 else event_end + 2


def _is_answer(body: bytes) -> bool:
    """Whether nothing has to follow: a whole JSON text, but for a chunk that others follow."""
    document = openai_json.loads(body)
    if document is not None:
        return not fields.goes_on(document)
    # Usage may stand behind the line with the finish reason.
    last = body.rstrip().rsplit(b"\n", 2)[1:]
    return any(fields.has_reason(openai_json.loads(line)) for line in last)


def _without_blanks(start: bytes) -> bytes:
    return start.lstrip().removeprefix(_BYTE_ORDER_MARK).lstrip()


def _left_in(content: aiohttp.StreamReader) -> bytes:
    """What had come before the connection broke and was not read yet: aiohttp would rather raise
    the error again, but the end of an answer may be in it."""
    content.set_exception(None)  # type: ignore[arg-type]  # There is no other public way.
    return content.read_nowait()
