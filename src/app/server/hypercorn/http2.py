"""HTTP/2 with limits: frames are counted, and an error of one stream does not end the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol

from ....adapters.transports.control.protocol import SMALL_FRAME
from .leaving import Leaving
from .pacing import TURN, FrameBudget, first_of, within

_BURST = 2_000
_RATE = 500.0
_PER_CHUNK = 2
"""Tokens for each chunk of an answer: a client may raise two windows for it."""
_FAREWELL = 2.0
"""Seconds that a client has to read the reason of the end."""
_PREFACE = 24
_HEAD = 9
DATA, RST_STREAM, SETTINGS = 0, 3, 4
_RESET_PRICE = 16
"""A stream that is opened and reset costs a whole request."""
_PAIRS_PER_TOKEN = 10


class RuledHttp2(H2Protocol):
    """A connection with a limited rate of frames, whose streams end independently."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._frames = FrameCounter()
        self._budget = FrameBudget(_BURST, _RATE, asyncio.get_running_loop().time)
        self._is_over = False
        self._gone = asyncio.Event()
        self._sent = asyncio.Event()
        """The last byte of a response was sent, since the event was cleared."""

    async def initiate(
        self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
    ) -> None:
        """hypercorn stops the idle timer for the preface as for a request; start it again."""
        await super().initiate(headers, settings)
        await self.send(Updated(idle=self.idle))

    async def handle(self, event: Event) -> None:
        if not isinstance(event, RawData):
            self._gone.set()
            await super().handle(event)
            return
        for piece, price in self._frames.pieces(event.data):
            if self._is_over or self.closed:
                return
            if not self._budget.take(price):
                await self._calm_down()
                return
            await super().handle(RawData(piece))
            await asyncio.sleep(0)

    async def _calm_down(self) -> None:
        """End the connection, and read on for a while: after a reset the client would not receive
        the reason."""
        self._is_over = True
        self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        await self._flush()
        await super().handle(Closed())
        self.task_group.spawn(self._part)

    async def say_goodbye(self) -> bool:
        """End the connection with GOAWAY, once nothing is unsent. It has the number of the last
        request, so a client knows that those it has sent since were not carried out, and sends them
        on another connection. False where another request has come meanwhile; then nothing is done.

        Not while requests are in work: for clients that are made with h2, such as httpx, GOAWAY is
        the end of those as well.
        """
        while self.stream_buffers and not self.closed and not self.streams:
            self._sent.clear()
            await within(self._sent, _FAREWELL)
        if self.closed or self._is_over:
            return True
        if self.streams:
            return False
        self._is_over = True
        self.connection.close_connection()
        await self._flush()
        leaving: Leaving | None = getattr(self.config, "leaving", None)
        if leaving is not None and leaving.begun:
            # A client may look at what it has received only when it sends its next request.
            await first_of(self._gone, leaving.ended)
            await self._part(getattr(self.config, "crossing_seconds", _FAREWELL))
        else:
            await self._part()
        return True

    async def _part(self, patience: float = _FAREWELL) -> None:
        await within(self._gone, patience)
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Body):
            self._budget.give(_PER_CHUNK)
        await super().stream_send(event)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        """Handle the events one by one, so that an error of one stream does not affect others.

        hypercorn looks up the stream of a body's piece without checking that it exists.
        """
        for event in events:
            try:
                if not self._is_refused(event):
                    await super()._handle_events([event])
            except h2.exceptions.ProtocolError:
                continue  # As when the stream or the connection was closed meanwhile.
        await self._flush()

    def _is_refused(self, event: h2.events.Event) -> bool:
        """Whether the event was handled here, without the application."""
        if isinstance(event, h2.events.RequestReceived):
            if not _is_request(event):
                self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
                return True
            if self.context.terminated.is_set():
                # hypercorn gives no reason. With this one the client may send it again:
                # https://www.rfc-editor.org/rfc/rfc9113#section-8.7
                self.connection.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
                return True
            return False
        if not isinstance(event, h2.events.DataReceived) or event.stream_id in self.streams:
            return False
        # The request was answered already. Its bytes still count, so the connection's window has to
        # be opened again for the other streams.
        stream_id = event.stream_id
        self.connection.acknowledge_received_data(event.flow_controlled_length, stream_id)
        if stream_id not in self.stream_buffers:
            # https://www.rfc-editor.org/rfc/rfc9113#section-8.1-6: a complete answer may be
            # followed by a reset, so that the client stops its upload.
            self.connection.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        return True

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        """Ignore priorities. RFC 9113 has deprecated them, and frames for streams that never begin
        can fill hypercorn's tree of priorities and make it circular."""

    async def _send_data(self, stream_id: int) -> None:
        """hypercorn does not check that the buffer of a stream still exists."""
        if stream_id in self.stream_buffers:
            await super()._send_data(stream_id)
            self._sent.set()
        else:
            self.priority.remove_stream(stream_id)


def _is_request(event: h2.events.RequestReceived) -> bool:
    """Whether hypercorn can serve it: it assumes an ASCII method and an ASCII path."""
    pseudo = {bytes(name): bytes(value) for name, value in event.headers if name[:1] == b":"}
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not method or not path or not method.isascii() or not path.isascii():
        return False
    return method.upper() != b"CONNECT" or pseudo.get(b":protocol") == b"websocket"


class FrameCounter:
    """Divides received bytes into pieces of at most `TURN` frames, each with its price.

    https://www.rfc-editor.org/rfc/rfc9113#section-4.1: a frame begins with the 24 bits of its
    payload's length and the 8 bits of its type.
    """

    def __init__(self) -> None:
        self._left = _PREFACE
        """Bytes until the next frame begins."""
        self._head = b""

    def pieces(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """The pieces of `data` and the tokens that the frames beginning in them cost."""
        start = at = frames = price = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                at, self._left = at + step, self._left - step
                continue
            missing = _HEAD - len(self._head)
            self._head += data[at : at + missing]
            at = min(at + missing, len(data))
            if len(self._head) == _HEAD:
                price += self._begin()
                frames += 1
            if frames == TURN:
                yield data[start:at], price
                start, frames, price = at, 0, 0
        if start < len(data):
            yield data[start:], price

    def _begin(self) -> int:
        """Count the frame whose head is complete; its price."""
        size, kind = int.from_bytes(self._head[:3]), self._head[3]
        self._left, self._head = size, b""
        if kind == DATA:
            return int(size < SMALL_FRAME)
        if kind == RST_STREAM:
            return _RESET_PRICE
        if kind == SETTINGS:
            return 1 + size // (6 * _PAIRS_PER_TOKEN)
        return 1 + size // SMALL_FRAME
