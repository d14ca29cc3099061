"""A small HTTP proxy that opens tunnels (CONNECT)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """`hosts`: the local port of each host name. `status`: if set, it refuses with this status."""

    hosts: Mapping[str, int] = field(default_factory=dict)
    status: int = 200
    port: int = 0
    tunnels: list[str] = field(default_factory=list)
    """The `host:port` of every request so far."""
    credentials: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ConnectProxy]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        assert method == "CONNECT"
        pairs = (line.partition(": ") for line in head[1:])
        headers = {name.lower(): value for name, _, value in pairs}
        self.tunnels.append(target)
        self.credentials.append(headers.get("proxy-authorization"))
        try:
            if self.status == 200:
                await self._tunnel(target.rpartition(":")[0], reader, writer)
            else:
                writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self.status)
        finally:
            writer.close()

    async def _tunnel(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.hosts[host])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(65_536):
            sink.write(piece)
            await sink.drain()
    sink.close()
