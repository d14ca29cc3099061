"""Opens a connection to the Gateway and replaces it when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

import aiohttp

from .errors import ClientError, ConnectFailed, ConnectionLost, HandshakeRefused, TimedOut
from .handshake import Hello, open_connection
from .link import Link, OnEvent, OnGap
from .options import Options

Sleep = Callable[[float], Awaitable[None]]


class State(StrEnum):
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


OnState = Callable[[State], None]
OnEnd = Callable[[ClientError], None]


class ConnectionManager:
    """Owns the current `Link` and its replacements.

    `_ready` is a future of the live link. While the connection is up it is done; when the
    connection is lost it is replaced by a pending one, so that `link()` waits for the next
    connection; when the client ends for good it holds the error. `on_end` gets that error once.
    """

    def __init__(
        self,
        options: Options,
        *,
        on_event: OnEvent,
        on_end: OnEnd,
        on_gap: OnGap | None = None,
        on_state: OnState | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.options = options
        self.hello: Hello | None = None
        """The `hello-ok` of the newest connection."""
        self._on_event = on_event
        self._on_end = on_end
        self._on_gap = on_gap
        self._on_state = on_state
        self._sleep = sleep
        self._http: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Link] | None = None

    async def start(self) -> None:
        """Connect. Raises ConnectFailed, HandshakeRefused."""
        self._http = aiohttp.ClientSession()
        try:
            link = await self._open()
        except BaseException:
            await self._http.close()
            raise
        self._set_ready(link)
        self._task = asyncio.create_task(self._run(link), name="connection to the Gateway")

    async def stop(self) -> None:
        """Close the connection and fail every later `link()`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._http is not None:
            await self._http.close()
        self._give_up(ConnectionLost("The client is closed."))

    async def link(self, timeout: float | None = None) -> Link:  # noqa: ASYNC109
        """Wait for the live connection. Raises TimedOut, or the error that ended the client."""
        if self._ready is None:
            raise ConnectionLost("The client has not been connected yet.")
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            raise TimedOut(f"The client did not reconnect within {timeout:g} s.") from None

    async def _open(self) -> Link:
        assert self._http is not None  # noqa: S101 - made on entering
        options = self.options
        try:
            socket, hello = await open_connection(self._http, options)
        except HandshakeRefused as rejection:
            self._discard_rejected_token(rejection)
            raise
        if hello.device_token and options.device_tokens is not None:
            options.device_tokens.put(options.url, hello.role, hello.device_token, hello.scopes)
        self.hello = hello
        return Link(
            socket,
            hello,
            on_event=self._on_event,
            on_gap=self._on_gap,
            silence=options.silence,
        )

    def _discard_rejected_token(self, rejection: HandshakeRefused) -> None:
        """Delete a stored device token that the Gateway no longer accepts."""
        tokens = self.options.device_tokens
        wrong = rejection.details.get("code") == "AUTH_DEVICE_TOKEN_MISMATCH"
        if wrong and tokens is not None and self.options.device_token is not None:
            tokens.remove(self.options.url, self.options.role)

    async def _run(self, link: Link) -> None:
        """Read from the connection until it ends, then replace it, until that fails."""
        while True:
            lost = ConnectionLost("The client is closed.")
            try:
                lost = await link.read()
            finally:
                # Before the pending calls fail: a caller that retries at once must wait for the
                # next link rather than get the dead one.
                self._reset_ready()
                await link.end(lost)
            replacement = await self._replace(lost)
            if replacement is None:
                return
            link = replacement
            self._set_ready(link)

    async def _replace(self, lost: ConnectionLost) -> Link | None:
        if not self.options.reconnect:
            self._give_up(lost)
            return None
        self._report(State.RECONNECTING)
        try:
            return await self._reconnect(lost)
        except ClientError as error:
            self._give_up(error)
            return None

    async def _reconnect(self, lost: ConnectionLost) -> Link:
        """Try until a connection is open, `give_up_after` has passed or the rejection is final.

        A rejection that is not retryable (bad credentials, unpaired device) ends the attempts:
        the same request would be rejected again.
        """
        backoff, clock = self.options.backoff, asyncio.get_running_loop().time
        started, last = clock(), str(lost)
        for wait in backoff.waits():
            if backoff.give_up_after is not None and clock() - started > backoff.give_up_after:
                break
            await self._sleep(wait)
            try:
                return await self._open()
            except HandshakeRefused as rejection:
                if not rejection.retryable:
                    raise
                last = rejection.message
            except ConnectFailed as failed:
                last = failed.message
        raise ConnectionLost(f"Reconnecting to the Gateway failed. The last error: {last}")

    def _set_ready(self, link: Link) -> None:
        self._unsettled().set_result(link)
        self._report(State.CONNECTED)

    def _reset_ready(self) -> None:
        self._ready = asyncio.get_running_loop().create_future()

    def _unsettled(self) -> asyncio.Future[Link]:
        """The future that `link` awaits; a new one if the present one is done."""
        if self._ready is None or self._ready.done():
            self._reset_ready()
        assert self._ready is not None  # noqa: S101 - made just now
        return self._ready

    def _give_up(self, error: ClientError) -> None:
        """Fail every present and future wait for a connection."""
        ready = self._unsettled()
        ready.set_exception(error)
        ready.exception()  # Marks it as retrieved: asyncio logs no error if nobody awaits it.
        self._on_end(error)
        self._report(State.CLOSED)

    def _report(self, state: State) -> None:
        if self._on_state is not None:
            self._on_state(state)
