"""Puts our rules for connections, HTTP and WebSockets in the place of hypercorn's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from contextlib import suppress
from ssl import SSLError
from types import ModuleType
from typing import Any

from hypercorn import protocol
from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.events import Closed, RawData
from hypercorn.protocol import h2, h11
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream

from ...descriptors import is_of_the_last
from .half_closed import HalfClosed
from .http1 import RuledHttp1, RuledHttpStream
from .http2 import RuledHttp2
from .peers import PeerConnections
from .websocket_stream import RuledStream


def _unavailable(message: str, code: str) -> bytes:
    """A whole answer, for connections that are closed before a request is read."""
    body = b'{"error":{"message":"%b","type":"server_error","param":null,"code":"%b"}}' % (
        message.encode(),
        code.encode(),
    )
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nRetry-After: 5\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


_TOO_MANY = _unavailable(
    "This address has too many connections (gateway.maxConnectionsPerAddress).",
    "too_many_connections",
)
_NO_DESCRIPTORS = _unavailable(
    "The Gateway has too many connections and files open.", "too_many_connections"
)
FIRST_REQUEST_SECONDS = 20.0
"""How long a new connection may take for the head of its first request. With TLS, half of it is
for the handshake."""
_PARTING = 2.0
"""Seconds that an idle TLS client gets to agree to the connection's end."""


class HypercornChanged(Exception):
    """hypercorn is not built as these rules expect; the message says where."""


def install() -> None:
    """Have hypercorn serve its connections by these rules. Doing it again changes nothing.

    Raises HypercornChanged.
    """
    for module, name, original, ours in _REPLACED:
        if getattr(module, name, None) not in (original, ours):
            raise HypercornChanged(f"{module.__name__} does not use its {name}")
    for owner, names in _EXPECTED.items():
        if absent := [name for name in names if not hasattr(owner, name)]:
            raise HypercornChanged(f"{owner.__name__} has no {', '.join(absent)}")
    for owner, parameters in _PARAMETERS.items():
        if missing := parameters - inspect.signature(owner).parameters.keys():
            raise HypercornChanged(f"{owner.__name__} takes no {', '.join(sorted(missing))}")
    for module, name, _, ours in _REPLACED:
        setattr(module, name, ours)


class PatientServer(TCPServer):
    """A client that has gone is no error when its connection is closed here, too.

    uvloop then says that the socket is not connected, which hypercorn takes for a failure of the
    whole server.
    """

    _expecting_first = True

    async def run(self) -> None:
        """Serve the connection, unless its address has too many, or the process."""
        peers: PeerConnections | None = getattr(self.config, "peers", None)
        name = self.writer.get_extra_info("peername")
        if is_of_the_last(self.writer.get_extra_info("socket").fileno()):
            await self._turn_away(_NO_DESCRIPTORS)
        elif peers is None or not isinstance(name, tuple):
            await super().run()
        elif peers.enter(name[0]):
            try:
                await super().run()
            finally:
                peers.leave(name[0])
        else:
            await self._turn_away(_TOO_MANY)

    async def _turn_away(self, answer: bytes) -> None:
        """An answer, as far as the client still takes one, and the end."""
        tls = self.writer.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            self.writer.write(answer)
        await self._close()

    def _idle_timeout(self) -> Coroutine[Any, Any, None]:
        """The first request has to come sooner than further ones: who brings none is a stranger."""
        # Noted here: what is returned may be cancelled before it begins.
        first, self._expecting_first = self._expecting_first, False
        return self._first_timeout() if first else super()._idle_timeout()

    async def _first_timeout(self) -> None:
        seconds = FIRST_REQUEST_SECONDS / 2 if self._is_tls else FIRST_REQUEST_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.context.terminated.wait()
        await asyncio.shield(self._initiate_server_close())

    async def _initiate_server_close(self) -> None:
        """Close an idle connection."""
        await super()._initiate_server_close()
        if self._is_tls:
            # A silent client would keep the socket for the half minute that TLS gives it to agree.
            self.loop.call_later(_PARTING, self.writer.transport.abort)

    @property
    def _is_tls(self) -> bool:
        return self.writer.get_extra_info("ssl_object") is not None

    async def _read_data(self) -> None:
        await self._read_to_end()
        await self.protocol.handle(Closed())
        # The client has gone, and no request will come. Without this its socket would stay open
        # until keep-alive ends, so that opening and closing many would use up all there may be.
        await self.idle_task.stop()

    async def _read_to_end(self) -> None:
        """As hypercorn does, except that the end of the data is not yet the client's departure."""
        try:
            data: bytes | None = None
            while data != b"":
                # The empty piece at the end, too: with it a request is complete, or cut off.
                data = await self.reader.read(MAX_RECV)
                await self.protocol.handle(RawData(data))
        except (OSError, SSLError):
            return
        if (answer := HalfClosed.of(self)) is not None:
            await answer.outlast()

    async def _close(self) -> None:
        with suppress(OSError):
            await super()._close()


_REPLACED: tuple[tuple[ModuleType, str, type, type], ...] = (
    (protocol, "H11Protocol", h11.H11Protocol, RuledHttp1),
    (protocol, "H2Protocol", h2.H2Protocol, RuledHttp2),
    (h11, "HTTPStream", HTTPStream, RuledHttpStream),
    (h11, "WSStream", WSStream, RuledStream),
    (h2, "HTTPStream", HTTPStream, RuledHttpStream),
    (h2, "WSStream", WSStream, RuledStream),
    (run, "TCPServer", TCPServer, PatientServer),
)
"""Where hypercorn names a class, that class, and ours."""
_EXPECTED: dict[type, tuple[str, ...]] = {
    WSStream: ("handle", "app_send", "_accept", "_handle_events", "_send_wsproto_event"),
    HTTPStream: ("handle",),
    h11.H11Protocol: (
        "handle",
        "stream_send",
        "_check_protocol",
        "_send_error_response",
        "_send_h11_event",
    ),
    h2.H2Protocol: (
        "handle",
        "idle",
        "initiate",
        "stream_send",
        "_flush",
        "_handle_events",
        "_priority_updated",
        "_send_data",
    ),
    TCPServer: (
        "protocol_send",
        "_close",
        "_read_data",
        "_idle_timeout",
        "_initiate_server_close",
        "run",
    ),
}
_PARAMETERS: dict[type, set[str]] = {
    WSStream: {"app", "config", "task_group", "send", "stream_id"},
    HTTPStream: {"send", "stream_id"},
    h11.H11Protocol: {"config", "send"},
    h11.H2ProtocolAssumedError: {"data"},
    h2.H2Protocol: {"config", "send", "task_group"},
    TCPServer: {"writer"},
    WebsocketBuffer: {"max_length"},
}
