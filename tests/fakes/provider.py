"""A model provider for tests: a real HTTP server that records requests and plays behaviours.

    async with FakeProvider(answer("Hel", "lo")) as provider:
        ...                                  # point a gateway at provider.base_url
        request = await provider.arrival()   # the next request that came in
        assert request.json["model"] == "m"

It answers each request with the next of the queued behaviours (`provider.will(...)`), or with the
default one when none is queued. The behaviours are in `tests.fakes.behaviours`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from types import TracebackType

import orjson

from .behaviours import Behaviour, Exchange, Received, answer

_MAX_HEAD_BYTES = 64 * 1024
PATIENCE = 5.0
"""Seconds after which a test fails that waits for an immediate event."""


class FakeProvider:
    """A provider with OpenAI's API on its own port, used as an async context manager.

    A Behaviour is any async function of an Exchange, so a test can write its own. With `tls`, it
    serves https.
    """

    def __init__(
        self, default: Behaviour | None = None, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.default = default or answer("Hello", " there")
        self.requests: list[Received] = []
        """Every request so far, oldest first."""
        self.connections = 0
        """TCP connections accepted so far."""
        self._queue: deque[Behaviour] = deque()
        self._arrivals: asyncio.Queue[Received] = asyncio.Queue()
        self._serving: dict[asyncio.Task[None], asyncio.WriteTransport] = {}
        self._errors: list[BaseException] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def base_url(self) -> str:
        """The base URL for a gateway's configuration."""
        return f"http://127.0.0.1:{self.port}/v1"

    def will(self, *behaviours: Behaviour) -> None:
        """Queue behaviours for the next requests, in order of arrival."""
        self._queue.extend(behaviours)

    async def arrival(self) -> Received:
        """Wait (with a timeout) for the next request that was not returned yet."""
        async with asyncio.timeout(PATIENCE):
            return await self._arrivals.get()

    async def __aenter__(self) -> FakeProvider:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the port and every connection. Raises the error of a behaviour, if any."""
        assert self._server is not None
        self._server.close()
        serving = dict(self._serving)
        for task, transport in serving.items():
            transport.abort()
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()
        if self._errors:
            raise self._errors[0]

    def _connection(self) -> _Connection:
        return _Connection(self)

    def _accept(self, connection: _Connection, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(connection, writer, self.connections))
        self._serving[task] = writer.transport
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        del self._serving[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def _serve(
        self, connection: _Connection, writer: asyncio.StreamWriter, number: int
    ) -> None:
        try:
            while (request := await _read_request(connection.reader, number)) is not None:
                self.requests.append(request)
                self._arrivals.put_nowait(request)
                behaviour = self._queue.popleft() if self._queue else self.default
                if not await _answer(behaviour, Exchange(request, writer), connection.gone):
                    break
        finally:
            writer.close()


async def _answer(behaviour: Behaviour, exchange: Exchange, gone: asyncio.Event) -> bool:
    """Play a behaviour until its end, or until the caller disconnects. Returns whether the
    connection can be reused."""

    async def behave() -> None:
        await behaviour(exchange)

    acting = asyncio.create_task(behave())
    leaving = asyncio.create_task(gone.wait())
    try:
        await asyncio.wait((acting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not acting.done():
            exchange.request.disconnected.set()
    finally:
        acting.cancel()
        leaving.cancel()
        results = await asyncio.gather(acting, leaving, return_exceptions=True)
        exchange.request.ended.set()
    if isinstance(results[0], ConnectionError):
        exchange.request.disconnected.set()
    elif isinstance(results[0], Exception):
        raise results[0]
    return exchange.reusable and not gone.is_set()


class _Connection(asyncio.StreamReaderProtocol):
    """A connection that detects at once that the peer has closed it."""

    def __init__(self, provider: FakeProvider) -> None:
        self.reader = asyncio.StreamReader(limit=_MAX_HEAD_BYTES)
        self.gone = asyncio.Event()
        super().__init__(self.reader, lambda _, writer: provider._accept(self, writer))

    def eof_received(self) -> bool | None:
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Received | None:
    """The next request on a connection; None if the caller has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        pairs = (line.partition(":") for line in lines[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    return Received(method, path, headers, body, content, connection)
