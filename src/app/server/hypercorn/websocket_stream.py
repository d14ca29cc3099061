"""A WebSocket with limits, close frames in both directions, and pings with a deadline."""

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
from .websocket_wire import Inbox, ServerWire

PING_TIMEOUT = "ping timeout"
TOO_MANY_FRAMES = "too many frames"
_DECODED = (b"connection", b"sec-websocket-protocol")


class RuledStream(WSStream):
    """A WebSocket that sends the reason of its end, ends in bounded time, and limits its peer."""

    buffer: ByteCounter

    def __init__(self, app: Any, config: Config, *more: Any, **named: Any) -> None:
        super().__init__(self._run_app, config, *more, **named)
        self._application = app
        self._timing = getattr(config, "websocket_timing", ServerConfig.websocket_timing)
        self._inbox = Inbox()
        self.wire = ServerWire(_transport_below(self.send), self._inbox)
        self.buffer = ByteCounter(lambda: self.wire.limit)
        self._answered = asyncio.Event()
        self._received = asyncio.Event()
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
        if isinstance(event, Request):
            if _is_readable(event):
                await super().handle(_without_extensions(event))
            else:
                await self._refuse_malformed()
            if self.closed:
                # Refused before the application started; hypercorn would leave it open.
                await self.send(StreamClosed(stream_id=self.stream_id))
        elif isinstance(event, StreamClosed):
            self.closed = True
            for event_set in (self._answered, self._received, self._parted):
                event_set.set()
            self._inbox.close(CloseReason.ABNORMAL_CLOSURE)
        elif isinstance(event, (Body, Data)):
            await self._receive(event.data)

    async def _refuse_malformed(self) -> None:
        self.closed = True
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await self.send(Response(stream_id=self.stream_id, status_code=400, headers=headers))
        await self.send(EndBody(stream_id=self.stream_id))

    async def _receive(self, data: bytes) -> None:
        self._received.set()
        # Data that arrives before the handshake is answered waits for the answer.
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
        """Count a frame. Before authentication the number of all frames is limited, afterwards the
        rate of those with little content; the application limits whole messages itself."""
        if isinstance(event, Message) and not event.frame_finished:
            return True  # A part of a frame.
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
            self._received.set()

    def _on_close(self, event: CloseConnection) -> None:
        """Handle the peer's close frame, or an error in its frames, after which wsproto is still
        open."""
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
        """Handle a message of the application; None when it has returned."""
        kind = None if message is None else message["type"]
        if self._leaving:
            return
        if kind == "websocket.close" and self.state is ASGIWebsocketState.CONNECTED:
            self._leave(_close_frame(message))
        elif kind is None and self.state is ASGIWebsocketState.CONNECTED and not self.closed:
            # Not in a task of its own: a server that is stopping starts none.
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
        """Disable hypercorn's pings, which have no deadline; `_watch` sends them."""

    async def _send_wsproto_event(self, event: Frame) -> None:
        try:
            await super()._send_wsproto_event(event)
        except OSError:
            # The system has given up the connection.
            self.wire.cut()
        self.wire.writes += 1

    async def _watch(self) -> None:
        """Send pings; end the connection if the peer reads nothing or does not answer."""
        while not await within(self._parted, self._timing.ping_interval):
            self._received.clear()
            if not await self._write(Ping(), self._timing.pong_deadline):
                return
            answered = await within(self._received, self._timing.pong_deadline)
            # While the application holds the connection back, the pong is not read.
            if not answered and not self._inbox.held:
                self._fail(CloseReason.GOING_AWAY, PING_TIMEOUT)

    async def _farewell(self, last: CloseConnection) -> None:
        """Send a close frame, and read on until the peer's: a reset could discard ours."""
        patience = self._timing.farewell
        if await self._write(last, patience):
            if self._deaf and self.handshake.http_version == "1.1":
                # After an error the peer's close frame cannot be parsed: send our end of file.
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
    """The transport of the stream's connection: stream, protocol, server, writer."""
    server: TCPServer = stream_send.__self__.send.__self__
    return server.writer.transport


def _close_frame(message: Any) -> CloseConnection:
    code = int(message.get("code", CloseReason.NORMAL_CLOSURE))
    return CloseConnection(code=code, reason=message.get("reason"))


def _is_readable(request: Request) -> bool:
    """Whether hypercorn can decode the headers that it reads of an upgrade; it would end the
    connection with a traceback otherwise."""
    return all(value.isascii() for name, value in request.headers if name.lower() in _DECODED)


def _without_extensions(request: Request) -> Request:
    """Prevent compression: the size of a compressed message is unknown until it is inflated."""
    kept = [pair for pair in request.headers if pair[0].lower() != b"sec-websocket-extensions"]
    return Request(**{**vars(request), "headers": kept})
