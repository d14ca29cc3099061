"""Keeps one connection to the Gateway: makes it, watches it, and makes it again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

import aiohttp

from .errors import ClientError, ConnectFailed, ConnectionLost, HandshakeRefused, TimedOut
from .handshake import Hello, connected
from .link import Link, OnEvent, OnGap
from .options import Options

Sleep = Callable[[float], Awaitable[None]]


class State(StrEnum):
    """Where a client stands."""

    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


OnState = Callable[[State], None]
OnEnd = Callable[[ClientError], None]


class ConnectionManager:
    """`on_end` is told what ended the connection for good."""

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
        """What the Gateway said when it let this client in last."""
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
        self._tell_ready(link)
        self._task = asyncio.create_task(self._keep(link), name="connection to the Gateway")

    async def stop(self) -> None:
        """End the connection, for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._http is not None:
            await self._http.close()
        self._give_up(ConnectionLost("The client is closed."))

    async def link(self, timeout: float | None = None) -> Link:  # noqa: ASYNC109
        """The live connection, once there is one. Raises what ended the client, TimedOut."""
        if self._ready is None:
            raise ConnectionLost("The client has not been connected yet.")
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            raise TimedOut(f"There was no connection for {timeout:g} s.") from None

    async def _open(self) -> Link:
        assert self._http is not None  # noqa: S101 - made on entering
        options = self.options
        try:
            socket, hello = await connected(self._http, options)
        except HandshakeRefused as refused:
            self._forget_token(refused)
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

    def _forget_token(self, refused: HandshakeRefused) -> None:
        """A token that is refused once is refused for ever."""
        tokens = self.options.device_tokens
        wrong = refused.details.get("code") == "AUTH_DEVICE_TOKEN_MISMATCH"
        if wrong and tokens is not None and self.options.device_token is not None:
            tokens.remove(self.options.url, self.options.role)

    async def _keep(self, link: Link) -> None:
        """Read the connection, and get another one when it ends."""
        while True:
            lost = ConnectionLost("The client is closed.")
            try:
                lost = await link.read()
            finally:
                # First, so that nobody who hears of the end finds the old connection again.
                self._not_ready()
                await link.end(lost)
            again = await self._again(lost)
            if again is None:
                return
            link = again
            self._tell_ready(link)

    async def _again(self, lost: ConnectionLost) -> Link | None:
        if not self.options.reconnect:
            self._give_up(lost)
            return None
        self._say(State.RECONNECTING)
        try:
            return await self._reconnect(lost)
        except ClientError as error:
            self._give_up(error)
            return None

    async def _reconnect(self, lost: ConnectionLost) -> Link:
        backoff, clock = self.options.backoff, asyncio.get_running_loop().time
        begun, last = clock(), str(lost)
        for wait in backoff.waits():
            if backoff.give_up_after is not None and clock() - begun > backoff.give_up_after:
                break
            await self._sleep(wait)
            try:
                return await self._open()
            except HandshakeRefused as refused:
                if not refused.retryable:
                    raise
                last = refused.message
            except ConnectFailed as failed:
                last = failed.message
        raise ConnectionLost(f"The Gateway did not come back: {last}")

    def _tell_ready(self, link: Link) -> None:
        self._waiting().set_result(link)
        self._say(State.CONNECTED)

    def _not_ready(self) -> None:
        self._ready = asyncio.get_running_loop().create_future()

    def _waiting(self) -> asyncio.Future[Link]:
        """What `link` waits for, not settled yet."""
        if self._ready is None or self._ready.done():
            self._not_ready()
        assert self._ready is not None  # noqa: S101 - made just now
        return self._ready

    def _give_up(self, error: ClientError) -> None:
        """Nothing more will come: say so to everybody who waits, and to who asks later."""
        waiting = self._waiting()
        waiting.set_exception(error)
        waiting.exception()  # It is no fault if nobody asks.
        self._on_end(error)
        self._say(State.CLOSED)

    def _say(self, state: State) -> None:
        if self._on_state is not None:
            self._on_state(state)
