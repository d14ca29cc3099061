"""Puts our rules for WebSockets in the place of hypercorn's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol import h2, h11
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream

from .peers import PeerConnections
from .websocket_stream import RuledStream

_TOO_MANY_BODY = (
    b'{"error":{"message":"This address has too many connections '
    b'(gateway.maxConnectionsPerAddress).","type":"server_error","param":null,'
    b'"code":"too_many_connections"}}'
)
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Retry-After: 5\r\nContent-Length: %d\r\n\r\n%b" % (len(_TOO_MANY_BODY), _TOO_MANY_BODY)
)
FIRST_REQUEST_SECONDS = 20.0
"""How long a new connection may take for the head of its first request."""


class HypercornChanged(Exception):
    """hypercorn is not built as these rules expect; the message says where."""


def install() -> None:
    """Have hypercorn serve its WebSockets by these rules. Doing it again changes nothing.

    Raises HypercornChanged.
    """
    for module in (h11, h2):
        if getattr(module, "WSStream", None) not in (WSStream, RuledStream):
            raise HypercornChanged(f"{module.__name__} does not make its WebSockets of WSStream")
    for owner, names in _EXPECTED.items():
        if absent := [name for name in names if not hasattr(owner, name)]:
            raise HypercornChanged(f"{owner.__name__} has no {', '.join(absent)}")
    for owner, parameters in _PARAMETERS.items():
        if missing := parameters - inspect.signature(owner).parameters.keys():
            raise HypercornChanged(f"{owner.__name__} takes no {', '.join(sorted(missing))}")
    for module in (h11, h2):
        module.WSStream = RuledStream  # type: ignore[attr-defined]
    if getattr(run, "TCPServer", None) not in (TCPServer, PatientServer):
        raise HypercornChanged(f"{run.__name__} does not serve connections by TCPServer")
    run.TCPServer = PatientServer  # type: ignore[attr-defined]


class PatientServer(TCPServer):
    """A client that has gone is no error when its connection is closed here, too.

    uvloop then says that the socket is not connected, which hypercorn takes for a failure of the
    whole server.
    """

    _expecting_first = True

    async def run(self) -> None:
        """Serve the connection, unless its address has too many."""
        peers: PeerConnections | None = getattr(self.config, "peers", None)
        name = self.writer.get_extra_info("peername")
        if peers is None or not isinstance(name, tuple):
            await super().run()
        elif peers.enter(name[0]):
            try:
                await super().run()
            finally:
                peers.leave(name[0])
        else:
            await self._turn_away()

    async def _turn_away(self) -> None:
        """An answer, as far as the client still takes one, and the end."""
        tls = self.writer.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            self.writer.write(_TOO_MANY)
        await self._close()

    def _idle_timeout(self) -> Coroutine[Any, Any, None]:
        """The first request has to come sooner than further ones: who brings none is a stranger."""
        # Noted here: what is returned may be cancelled before it begins.
        first, self._expecting_first = self._expecting_first, False
        return self._first_timeout() if first else super()._idle_timeout()

    async def _first_timeout(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_REQUEST_SECONDS):
                await self.context.terminated.wait()
        await asyncio.shield(self._initiate_server_close())

    async def _read_data(self) -> None:
        await super()._read_data()
        # The client has gone, and no request will come. Without this its socket would stay open
        # until keep-alive ends, so that opening and closing many would use up all there may be.
        await self.idle_task.stop()

    async def _close(self) -> None:
        with suppress(OSError):
            await super()._close()


_EXPECTED: dict[type, tuple[str, ...]] = {
    WSStream: ("handle", "app_send", "_accept", "_handle_events", "_send_wsproto_event"),
    h11.H11Protocol: ("stream_send",),
    h2.H2Protocol: ("stream_send",),
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
    h11.H11Protocol: {"send"},
    h2.H2Protocol: {"send"},
    TCPServer: {"writer"},
    WebsocketBuffer: {"max_length"},
}
