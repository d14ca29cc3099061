"""One connection: limits on their number, idle timeouts, and their end."""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from ssl import SSLError
from typing import Any

from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.events import Closed, RawData

from ...descriptors import is_of_the_last
from .config import ServerConfig
from .half_closed import HalfClosed
from .http1 import RuledHttp1
from .http2 import RuledHttp2
from .idle_watch import IdleWatch
from .leaving import Leaving
from .pacing import within
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
        leaving: Leaving | None = self._setting("leaving")
        self.idle_task: IdleWatch = IdleWatch(  # type: ignore[assignment]
            # With TLS, the other half was for the handshake.
            first=first / 2 if self._is_tls else first,
            later=self.config.keep_alive_timeout,
            terminated=self.context.terminated if leaving is None else leaving.ended,
            close=self._initiate_server_close,
            has_received=self._has_received,
            leaving=leaving,
            may_leave=self._may_leave,
        )
        self._is_parting = False
        self._read_over = asyncio.Event()
        """Nothing more is read of the connection."""

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

    def _has_received(self) -> bool:
        """Whether bytes of a request have come: in the system, or parsed as the beginning of one.
        The end of the client's data counts, too: it is about to be read."""
        http = self.protocol.protocol
        if isinstance(http, RuledHttp1) and http.has_beginning:
            return True
        if not hasattr(select, "poll") or self.writer.is_closing():
            return False
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _may_leave(self) -> bool:
        """Whether a request that is on its way loses nothing when the connection is ended now:
        HTTP/2 says which ones were not carried out. A connection that had none yet is kept for the
        first, as httpx takes the end of such a one for a failure."""
        http = self.protocol.protocol
        return isinstance(http, RuledHttp2) and http.connection.highest_inbound_stream_id > 0

    async def _initiate_server_close(self) -> None:
        """End an idle connection.

        A request that crosses the end of our data is not carried out, and the client gets no reset:
        it reads that the connection had ended, after which many clients send the request again.
        """
        http = self.protocol.protocol
        if isinstance(http, RuledHttp2):
            if not await http.say_goodbye():
                return
        else:
            self._is_parting = True
            if self._end_writing():
                await within(self._read_over, self._setting("crossing_seconds"))
        await super()._initiate_server_close()
        if self._is_tls:
            # A silent client would keep the socket for the 30 s of TLS's shutdown timeout.
            self.loop.call_later(self._setting("parting_seconds"), self.writer.transport.abort)

    def _end_writing(self) -> bool:
        """Send the end of our data, and read on. False where that is not possible, as with TLS."""
        transport = self.writer.transport
        if transport.is_closing() or not transport.can_write_eof():
            return False
        if transport.get_write_buffer_size():
            return False  # asyncio would raise in a callback of the loop later.
        # asyncio, unlike uvloop, raises when the peer has closed its socket already.
        with suppress(OSError):
            transport.write_eof()
        return True

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
                if not self._is_parting:
                    await self.protocol.handle(RawData(data))
        except (OSError, SSLError):
            return
        finally:
            self._read_over.set()
        if (answer := HalfClosed.of(self)) is not None:
            await answer.outlast()

    async def _close(self) -> None:
        self.idle_task.end()
        with suppress(OSError):
            await super()._close()
