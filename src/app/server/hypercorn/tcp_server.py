"""One connection: limits on their number, idle timeouts, and their end."""

from __future__ import annotations

from contextlib import suppress
from ssl import SSLError
from typing import Any

from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.events import Closed, RawData

from ...descriptors import is_of_the_last
from .config import ServerConfig
from .half_closed import HalfClosed
from .idle_watch import IdleWatch
from .peers import PeerConnections


def _unavailable(message: str, code: str) -> bytes:
    """A complete response for connections that are closed before a request is read."""
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


class PatientServer(TCPServer):
    """A connection with limits, whose end is never an error of the server.

    When a client has disconnected, uvloop reports on closing that the socket is not connected,
    which hypercorn treats as a failure of the whole server.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        first: float = self._setting("first_request_seconds")
        self.idle_task: IdleWatch = IdleWatch(  # type: ignore[assignment]
            # With TLS, the other half was for the handshake.
            first=first / 2 if self._is_tls else first,
            later=self.config.keep_alive_timeout,
            terminated=self.context.terminated,
            close=self._initiate_server_close,
        )

    async def run(self) -> None:
        """Serve the connection, unless its address or the process has too many."""
        peers: PeerConnections | None = self._setting("peers")
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
        """Send the response if possible, and close the connection."""
        tls = self.writer.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            self.writer.write(answer)
        await self._close()

    async def _initiate_server_close(self) -> None:
        await super()._initiate_server_close()
        if self._is_tls:
            # A silent client would keep the socket for the 30 s of TLS's shutdown timeout.
            self.loop.call_later(self._setting("parting_seconds"), self.writer.transport.abort)

    def _setting(self, name: str) -> Any:
        """A setting of ServerConfig; its default for hypercorn's plain Config."""
        return getattr(self.config, name, getattr(ServerConfig, name))

    @property
    def _is_tls(self) -> bool:
        return self.writer.get_extra_info("ssl_object") is not None

    async def _read_data(self) -> None:
        await self._read_to_end()
        await self.protocol.handle(Closed())
        # No request can follow. Otherwise the socket would stay open until the keep-alive timeout,
        # and opening and closing many connections would exhaust the limit.
        self.idle_task.end()

    async def _read_to_end(self) -> None:
        """Like hypercorn's, but a client that only ended its data receives its response."""
        try:
            data: bytes | None = None
            while data != b"":
                # Including the empty piece at the end, which completes a request or cuts it off.
                data = await self.reader.read(MAX_RECV)
                await self.protocol.handle(RawData(data))
        except (OSError, SSLError):
            return
        if (answer := HalfClosed.of(self)) is not None:
            await answer.outlast()

    async def _close(self) -> None:
        self.idle_task.end()
        with suppress(OSError):
            await super()._close()
