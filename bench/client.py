"""A minimal HTTP client: one persistent connection, responses scanned instead of parsed."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import cast

from .wire import CHAT, DONE, TOKEN

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WRITTEN = re.compile(rb"@(\d+)@")
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class AnswerWrong(Exception):
    """The server sent an unexpected response."""


class Closed(Exception):
    """The server closed the connection instead of responding, as it may between two requests."""


@dataclass(slots=True)
class Answered:
    """One response. Times are in seconds since the request was written."""

    took: float = 0.0
    first_token: float | None = None
    delays: list[float] = field(default_factory=list)
    """The delay of each chunk of a slow stream, in seconds."""


class Client(asyncio.Protocol):
    """Sends one request at a time."""

    def __init__(self, token: str, *, timed: bool = False, path: str = CHAT) -> None:
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: "
        ).encode()
        self._timed = timed
        self._body = bytearray()
        self._length: int | None = None
        self._begun = False
        self._asked = 0.0
        self._answer = Answered()
        self._done: asyncio.Future[Answered] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it.

    async def ask(self, body: bytes, *, stream: bool) -> Answered:
        """Send a request and wait for the complete response. Raises AnswerWrong, Closed."""
        if self._transport.is_closing():
            raise Closed
        self._done = asyncio.get_running_loop().create_future()
        self._body.clear()
        self._begun, self._length, self._answer = False, None, Answered()
        self._asked = time.perf_counter()
        self._transport.write(self._head + b"%d\r\n\r\n" % len(body) + body)
        answered = await self._done
        if stream and DONE.strip() not in self._body:
            raise AnswerWrong(f"a stream without its end: {bytes(self._body[-300:])!r}")
        return answered

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._timed:
            now = time.monotonic_ns()
            for match in _WRITTEN.finditer(data):
                self._answer.delays.append((now - int(match[1])) / 1e9)
        self._body += data
        if self._answer.first_token is None and TOKEN in self._body:
            self._answer.first_token = time.perf_counter() - self._asked
        if not self._begun:
            self._read_head()
        if self._begun and self._complete():
            self._answer.took = time.perf_counter() - self._asked
            self._settle(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begun:
            self._settle(AnswerWrong(f"broken off: {bytes(self._body[-300:])!r}"))
        self._settle(Closed())

    def _read_head(self) -> None:
        end = self._body.find(b"\r\n\r\n")
        if end < 0:
            return
        if not self._body.startswith(b"HTTP/1.1 200"):
            self._settle(AnswerWrong(f"refused: {bytes(self._body[:600])!r}"))
            return
        self._begun = True
        length = _LENGTH.search(self._body, 0, end + 2)
        self._length = None if length is None else end + 4 + int(length[1])

    def _complete(self) -> bool:
        if self._length is not None:
            return len(self._body) >= self._length
        return self._body.endswith(_LAST_CHUNK)

    def _settle(self, error: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(self._answer)
        else:
            self._done.set_exception(error)


async def connected(port: int, token: str, *, timed: bool = False, path: str = CHAT) -> Client:
    """A client with a connection of its own."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: Client(token, timed=timed, path=path), "127.0.0.1", port
    )
    return client
