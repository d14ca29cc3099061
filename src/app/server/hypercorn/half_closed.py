"""Detects whether a client that has ended its data still waits for the response.

A client that has disconnected and one that closed only its sending half (`shutdown(SHUT_WR)`) look
the same: the end of their data. A byte sent to them shows the difference, because the system of a
disconnected client answers it with a reset. The probes are bytes that the client receives anyway:
the beginning of the status line, which is the same for every response, one byte at a time; in an
event stream that has begun, a comment.
"""

from __future__ import annotations

import asyncio
import socket

import h11
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from .pacing import within

_STATUS_LINE = b"HTTP/1.1 "
_COMMENT = b":\n\n"
_PAUSES = (0.25, 0.5, 1.25, 3.0, 10.0, 30.0, 60.0)
"""Seconds after each probe; the last one repeats. The second probe is for proxies, which detect by
the first one that their client has disconnected."""
_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5
"""Seconds between two checks for a reset; they double."""


class HalfClosed:
    """The response in progress on a connection whose client has ended its data.

    It intercepts everything that the protocol sends from now on.
    """

    def __init__(self, server: TCPServer, http: H11Protocol, stream: HTTPStream) -> None:
        self._writer = server.writer
        self._http = http
        self._stream = stream
        self._send_on = http.send
        self._ahead = 0
        """Bytes of the status line that were sent as probes."""
        self._over = asyncio.Event()
        http.send = self._send

    @classmethod
    def of(cls, server: TCPServer) -> HalfClosed | None:
        """None if no response is in progress, the request was cut off, or the end of the data is
        the end of the connection, as for TLS, WebSockets and HTTP/2."""
        http = server.protocol.protocol
        if not isinstance(http, H11Protocol) or not isinstance(http.stream, HTTPStream):
            return None
        if http.connection.their_state is not h11.CLOSED or server.writer.is_closing():
            return None
        return cls(server, http, http.stream)

    async def outlast(self) -> None:
        """Return when the response is complete, or the client has disconnected."""
        probes = 0
        try:
            while True:
                await self._probe()
                if await self._ends_within(_PAUSES[min(probes, len(_PAUSES) - 1)]):
                    return
                probes += 1
        finally:
            # The protocol keeps referring to this object; release the request.
            del self._stream

    async def _probe(self) -> None:
        state = self._http.connection.our_state
        if state is h11.SEND_RESPONSE:
            self._writer.write(_STATUS_LINE[self._ahead : self._ahead + 1])
            self._ahead = min(self._ahead + 1, len(_STATUS_LINE))
        elif state is h11.SEND_BODY and _has_event_stream(self._stream):
            await self._http._send_h11_event(h11.Data(data=_COMMENT))

    async def _ends_within(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + seconds, _FIRST_LOOK
        while (left := deadline - loop.time()) > 0:
            if await within(self._over, min(pause, left)) or self._is_reset():
                return True
            pause = min(2 * pause, _LAST_LOOK)
        return False

    def _is_reset(self) -> bool:
        """Whether the client has reset the connection; a transport that does not read misses it."""
        connection = self._writer.get_extra_info("socket")
        if self._writer.is_closing() or connection is None:
            return True
        return bool(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    async def _send(self, event: Event) -> None:
        if self._ahead and isinstance(event, RawData):
            event = RawData(event.data[self._ahead :])
            self._ahead = 0
        await self._send_on(event)
        if isinstance(event, Closed):
            self._over.set()


def _has_event_stream(stream: HTTPStream) -> bool:
    """Whether the response has a body of events; that to HEAD has none."""
    return stream.scope["method"] != "HEAD" and any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in stream.response["headers"]
    )
