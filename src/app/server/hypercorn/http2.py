"""HTTP/2 by our rules, where it is switched on: frames are counted, no stream ends the others."""

from __future__ import annotations

import asyncio
from typing import Any

import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol

from .http2_frames import FrameCounter
from .pacing import FrameBudget, within

_BURST = 2_000
_RATE = 500.0
_PER_CHUNK = 2
"""Tokens for each chunk of an answer: a client may raise two windows for it."""
_FAREWELL = 2.0
"""Seconds that a client gets to read why its connection ends."""


class RuledHttp2(H2Protocol):
    """A connection whose frames have a rate, and whose streams end one by one."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._frames = FrameCounter()
        self._budget = FrameBudget(_BURST, _RATE, asyncio.get_running_loop().time)
        self._is_over = False
        self._gone = asyncio.Event()

    async def initiate(
        self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
    ) -> None:
        """Begin. hypercorn stops the idle timer for the preface, as for a request."""
        await super().initiate(headers, settings)
        await self.send(Updated(idle=self.idle))

    async def handle(self, event: Event) -> None:
        """What hypercorn reports of the connection."""
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
        """End the connection, and read on for a while: a reset would take the reason from it."""
        self._is_over = True
        self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        await self._flush()
        await super().handle(Closed())
        self.task_group.spawn(self._part)

    async def _part(self) -> None:
        await within(self._gone, _FAREWELL)
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """What a stream sends."""
        if isinstance(event, Body):
            self._budget.give(_PER_CHUNK)
        await super().stream_send(event)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        """Handle the events one by one: one of a stream that has ended is no fault of others.

        hypercorn looks up the stream of a body's piece without a guard.
        """
        for event in events:
            try:
                if not self._is_refused(event):
                    await super()._handle_events([event])
            except h2.exceptions.ProtocolError:
                continue  # As when the stream or the connection was closed meanwhile.
        await self._flush()

    def _is_refused(self, event: h2.events.Event) -> bool:
        """Whether the event is dealt with here, without the application."""
        if isinstance(event, h2.events.RequestReceived):
            if _is_request(event):
                return False
            self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return True
        if not isinstance(event, h2.events.DataReceived) or event.stream_id in self.streams:
            return False
        # The request is answered. The bytes have been received, and the connection's window has
        # to be opened again for the other streams.
        stream_id = event.stream_id
        self.connection.acknowledge_received_data(event.flow_controlled_length, stream_id)
        if stream_id not in self.stream_buffers:
            # https://www.rfc-editor.org/rfc/rfc9113#section-8.1-6: a complete answer may be
            # followed by a reset, so that the client stops its upload.
            self.connection.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        return True

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        """Ignored: RFC 9113 has deprecated it, and hypercorn's tree of priorities can be filled,
        and made circular, by frames for streams that never begin."""

    async def _send_data(self, stream_id: int) -> None:
        """hypercorn closes the buffer of a stream that has gone without a look whether it has."""
        if stream_id in self.stream_buffers:
            await super()._send_data(stream_id)
        else:
            self.priority.remove_stream(stream_id)


def _is_request(event: h2.events.RequestReceived) -> bool:
    """Whether hypercorn can serve it: it takes the method and the path as ASCII, and as given."""
    pseudo = {bytes(name): bytes(value) for name, value in event.headers if name[:1] == b":"}
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not method or not path or not method.isascii() or not path.isascii():
        return False
    return method.upper() != b"CONNECT" or pseudo.get(b":protocol") == b"websocket"
