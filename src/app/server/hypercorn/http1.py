"""HTTP/1.1 with limits: bounded work per turn of the event loop, no upgrade to HTTP/2."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import h11
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from .pacing import Turns

_SLICE = 16_384
"""Bytes that are parsed before other connections get a turn."""
MAX_HEADERS = 500
"""Header lines of a request; more are refused with 431."""
FREE_PIECES = 16_384
LEAST_PIECE = 64
"""Bytes that pieces of a body beyond the first `FREE_PIECES` must have on average."""
_TOO_MANY_HEADERS = 431
_NO_SUCH_VERSION = 505


class RuledHttp1(H11Protocol):
    """Feeds the parser in slices, refuses HTTP/2 where it is disabled, and says with each answer of
    a server that is leaving that the connection ends."""

    @property
    def has_beginning(self) -> bool:
        """Whether a part of the next request's head has come."""
        return bool(self.connection.trailing_data[0])

    def stream_send(self, event: StreamEvent) -> Coroutine[Any, Any, None]:
        """Send an event of the application. Not a coroutine itself: each on the way costs every
        token."""
        if isinstance(event, Response) and self._is_leaving():
            event = Response(**{**vars(event), "headers": _closing(event.headers)})
        return super().stream_send(event)

    def _is_leaving(self) -> bool:
        leaving = getattr(self.config, "leaving", None)
        return leaving is not None and leaving.begun

    async def handle(self, event: Event) -> None:
        """Handle an event of the connection.

        A whole read of 64 KiB can contain 10,000 chunks, so it is parsed in slices.
        """
        if not isinstance(event, RawData) or len(event.data) <= _SLICE:
            await self._handle(event)
            return
        rest = event.data
        while rest and self.connection.their_state is not h11.ERROR:
            piece, rest = rest[:_SLICE], rest[_SLICE:]
            try:
                await self._handle(RawData(piece))
            except H2ProtocolAssumedError as assumed:
                raise H2ProtocolAssumedError(assumed.data + rest) from None
            await asyncio.sleep(0)

    async def _handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except h11.RemoteProtocolError as error:
            # Raised by `_check_protocol`; hypercorn answers the parser's own errors.
            await self._send_error_response(error.error_status_hint)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        """Refuse the request, or switch the protocol.

        `Upgrade: h2c` is always ignored: RFC 9113, section 3.1, has made it obsolete, and hypercorn
        would parse its settings without catching errors.
        """
        if len(event.headers) > MAX_HEADERS:
            raise h11.RemoteProtocolError("too many headers", error_status_hint=_TOO_MANY_HEADERS)
        if event.method == b"PRI" and event.target == b"*" and event.http_version == b"2.0":
            if not getattr(self.config, "http2", False):
                message = "HTTP/2 is switched off"
                raise h11.RemoteProtocolError(message, error_status_hint=_NO_SUCH_VERSION)
            await super()._check_protocol(event)


def _closing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in headers if pair[0].lower() != b"connection"]
    return [*kept, (b"connection", b"close")]


class RuledHttpStream(HTTPStream):
    """One request. Ends it if its body has far too many pieces."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._turns = Turns()
        self._pieces = 0
        self._bytes = 0

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, Body) and not self.closed:
            self._pieces += 1
            self._bytes += len(event.data)
            if (self._pieces - FREE_PIECES) * LEAST_PIECE > self._bytes:
                # As when the client disconnects: a response now could follow the application's.
                await self.send(StreamClosed(stream_id=self.stream_id))
                return
            await self._turns.step()
        await super().handle(event)
