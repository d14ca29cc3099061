"""A WebSocket by our rules: bounded, well-mannered, and ended when the peer is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.protocol.events import (
    Body,
    Data,
    EndBody,
    EndData,
    Event,
    Request,
    Response,
    StreamClosed,
)
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WSStream
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
    WebsocketAcceptEvent,
)
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.events import Event as Frame
from wsproto.frame_protocol import CloseReason

from ....adapters.transports.control.protocol import (
    EXTENSION,
    FRAME_BURST,
    FRAME_RATE,
    MAX_FRAMES_BEFORE_HELLO,
    SMALL_FRAME,
)
from .config import ServerConfig
from .pacing import FrameBudget, Turns, within
from .websocket_message import ByteCounter, size_of
from .websocket_upgrade import is_readable, without_extensions
from .websocket_wire import Inbox, ServerWire

PING_TIMEOUT = "ping timeout"
TOO_MANY_FRAMES = "too many frames"


class RuledStream(WSStream):
    """A WebSocket that says why it ends, ends in bounded time, and holds back who floods it."""

    buffer: ByteCounter

    def __init__(self, app: Any, config: Config, *more: Any, **named: Any) -> None:
        super().__init__(self._run_app, config, *more, **named)
        self._application = app
        self._timing = getattr(config, "websocket_timing", ServerConfig.websocket_timing)
        self._inbox = Inbox()
        self.wire = ServerWire(_transport_below(self.send), self._inbox)
        self.buffer = ByteCounter(lambda: self.wire.limit)
        self._answered = asyncio.Event()
        self._heard = asyncio.Event()
        self._parted = asyncio.Event()
        self._leaving = False
        self._deaf = False
        self._turns = Turns()
        self._frames = 0
        self._budget = FrameBudget(FRAME_BURST, FRAME_RATE, asyncio.get_running_loop().time)

    async def _run_app(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        sync_spawn: Callable[..., Any],
        call_soon: Callable[..., Any],
    ) -> None:
        described: Any = scope
        extensions = {**described["extensions"], EXTENSION: self.wire}
        with_wire = {**described, "extensions": extensions}
        await self._application(with_wire, self._inbox.get, send, sync_spawn, call_soon)

    async def handle(self, event: Event) -> None:
        """What hypercorn hears of the connection."""
        if isinstance(event, Request):
            if is_readable(event):
                await super().handle(without_extensions(event))
            else:
                await self._refuse_malformed()
            if self.closed:
                # Refused before the application saw it; hypercorn would leave it open.
                await self.send(StreamClosed(stream_id=self.stream_id))
        elif isinstance(event, StreamClosed):
            self.closed = True
            for told in (self._answered, self._heard, self._parted):
                told.set()
            self._inbox.close(CloseReason.ABNORMAL_CLOSURE)
        elif isinstance(event, (Body, Data)):
            await self._hear(event.data)

    async def _refuse_malformed(self) -> None:
        self.closed = True
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await self.send(Response(stream_id=self.stream_id, status_code=400, headers=headers))
        await self.send(EndBody(stream_id=self.stream_id))

    async def _hear(self, data: bytes) -> None:
        self._heard.set()
        # Who speaks before the handshake is answered is not heard before, either.
        await self._answered.wait()
        if self.handshake.accepted and not self._deaf and not self.closed:
            self.connection.receive_data(data)
            await self._handle_events()

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if not self._is_affordable(event):
                self._deaf = True
                self._fail(CloseReason.POLICY_VIOLATION, TOO_MANY_FRAMES)
                return
            if isinstance(event, Message):
                await self._take(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                self._on_close(event)
            await self._turns.step()
            if self.closed:
                return

    def _is_affordable(self, event: Frame) -> bool:
        """Count a frame: a number of all kinds before the peer has proven itself, a rate of those
        without content after that. Whole messages are held back by the application instead."""
        if isinstance(event, Message) and not event.frame_finished:
            return True  # A part of a frame, divided by TCP.
        if not self.wire.authenticated:
            self._frames += 1
            return self._frames <= MAX_FRAMES_BEFORE_HELLO
        if isinstance(event, Message):
            is_whole = event.message_finished and self.buffer.value is None
            if is_whole or len(event.data) >= SMALL_FRAME:
                return True
        return self._budget.take()

    async def _take(self, event: Message[Any]) -> None:
        if self._leaving:
            return
        try:
            self.buffer.extend(event)
        except FrameTooLargeError:
            self._fail(CloseReason.MESSAGE_TOO_BIG, self.wire.limit_reason)
            return
        if not self.wire.hold(size_of(event.data), finished=event.message_finished):
            self.buffer.cut()
        if event.message_finished:
            message = self.buffer.to_message()
            self.buffer.clear()
            await self._inbox.put(message)
            self._heard.set()

    def _on_close(self, event: CloseConnection) -> None:
        """The peer's close frame, or a fault of its frames: then wsproto stays as it was."""
        self._deaf = True
        if self.connection.state is ConnectionState.OPEN:
            self._fail(event.code, event.reason)
        elif self.connection.state is not ConnectionState.LOCAL_CLOSING:
            self._parted.set()
            unsaid = event.code == CloseReason.NO_STATUS_RCVD
            code = CloseReason.NORMAL_CLOSURE if unsaid else event.code
            self._inbox.close(event.code)
            self._leave(CloseConnection(code=code, reason=event.reason or None))

    def _fail(self, code: int, reason: str | None) -> None:
        self._inbox.close(code)
        self._leave(CloseConnection(code=code, reason=reason))

    def _leave(self, last: CloseConnection) -> None:
        if not self._leaving:
            self._begin_leaving()
            self.task_group.spawn(self._farewell, last)

    def _begin_leaving(self) -> None:
        self._leaving = True
        self.state = ASGIWebsocketState.CLOSED
        self.buffer.clear()

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """What the application says; None when it has returned."""
        kind = None if message is None else message["type"]
        if self._leaving:
            return
        if kind == "websocket.close" and self.state is ASGIWebsocketState.CONNECTED:
            self._leave(_close_frame(message))
        elif kind is None and self.state is ASGIWebsocketState.CONNECTED and not self.closed:
            # Here, not in a task of its own: the server may be stopping and start none.
            self._begin_leaving()
            await self._farewell(CloseConnection(code=CloseReason.INTERNAL_ERROR))
        else:
            try:
                await super().app_send(message)
            finally:
                if self.state is not ASGIWebsocketState.HANDSHAKE:
                    self._answered.set()

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        await super()._accept(message)
        self.task_group.spawn(self._watch)

    async def _send_pings(self) -> None:
        """hypercorn's own, without a deadline; `_watch` pings."""

    async def _send_wsproto_event(self, event: Frame) -> None:
        try:
            await super()._send_wsproto_event(event)
        except OSError:
            # As when the system gave the peer up: an end like any other.
            self.wire.cut()
        self.wire.writes += 1

    async def _watch(self) -> None:
        """Ping; give up a peer that takes nothing, or that does not answer."""
        while not await within(self._parted, self._timing.ping_interval):
            self._heard.clear()
            if not await self._write(Ping(), self._timing.pong_deadline):
                return
            heard = await within(self._heard, self._timing.pong_deadline)
            # Held back by the application, the peer's answer waits unread.
            if not heard and not self._inbox.held:
                self._fail(CloseReason.GOING_AWAY, PING_TIMEOUT)

    async def _farewell(self, last: CloseConnection) -> None:
        """Send a close frame, and read on until the peer's: a reset would take ours from it."""
        patience = self._timing.farewell
        if await self._write(last, patience):
            if self._deaf and self.handshake.http_version == "1.1":
                # After a fault its close frame cannot be made out: end it by our end of file.
                self.wire.stop_writing()
            await within(self._parted, patience)
        parting = asyncio.ensure_future(self._part())
        if not (await asyncio.wait({parting}, timeout=patience))[0]:
            self.wire.cut()
            parting.cancel()
            await asyncio.wait({parting})

    async def _part(self) -> None:
        await self.send(EndData(stream_id=self.stream_id))
        if not self.closed:
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _write(self, event: Frame, patience: float) -> bool:
        return await self.wire.taken(self._send_wsproto_event(event), patience)


def _transport_below(stream_send: Any) -> asyncio.WriteTransport:
    """From the stream over its protocol to the server of its connection, and what that has."""
    server: TCPServer = stream_send.__self__.send.__self__
    return server.writer.transport


def _close_frame(message: Any) -> CloseConnection:
    code = int(message.get("code", CloseReason.NORMAL_CLOSURE))
    return CloseConnection(code=code, reason=message.get("reason"))
