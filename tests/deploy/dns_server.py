"""A DNS server of one name, as the one of Docker is for the containers of a service."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

_RECORD_A = 1
_AUTHORITATIVE = 0x8580


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(0, 12) + 5  # Of the question: a name, a type and a class.
        kind = struct.unpack("!H", data[end - 4 : end - 2])[0]
        records = [
            # The name is the one at byte 12; class IN, kept for a second.
            struct.pack("!HHHIH", 0xC00C, _RECORD_A, 1, 1, 4) + bytes(map(int, address.split(".")))
            for address in (self._addresses if kind == _RECORD_A else ())
        ]
        head = data[:2] + struct.pack("!HHHHH", _AUTHORITATIVE, 1, len(records), 0, 0)
        self._transport.sendto(head + data[12:end] + b"".join(records), addr)


@asynccontextmanager
async def dns_server(addresses: Sequence[str]) -> AsyncIterator[str]:
    """The address of a server that knows `addresses` for every name."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Answers(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        host, port = transport.get_extra_info("sockname")
        yield f"{host}:{port}"
    finally:
        transport.close()
