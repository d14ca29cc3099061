"""A client that speaks in frames of its own making, also wrong ones, and reads them strictly."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_MASK = b"\x01\x02\x03\x04"
_OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """A client's frame, exactly as asked for."""
    mask_bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([mask_bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    repeated = _MASK * (len(payload) // 4 + 1)
    number = int.from_bytes(payload) ^ int.from_bytes(repeated[: len(payload)])
    return head + _MASK + number.to_bytes(len(payload))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


@dataclass
class RawClient:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str = ""

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def frame(self) -> tuple[int, bytes]:
        """The server's next frame: never masked, never of a reserved kind."""
        first, second = await self.reader.readexactly(2)
        assert first & 0x70 == 0
        size = second
        assert size < 128
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(size)

    async def text(self) -> str:
        opcode, payload = await self.frame()
        assert opcode == TEXT, (opcode, payload)
        return payload.decode()

    async def closing(self) -> tuple[int, str]:
        """The close frame that comes next."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, (opcode, payload)
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    async def ended(self) -> None:
        """The server closed the connection, in order and without a further byte."""
        assert await self.reader.read() == b""


@asynccontextmanager
async def opened(port: int, path: str = "/", *, more: str = _OFFER) -> AsyncIterator[RawClient]:
    """A connection whose upgrade was accepted."""
    async with connected(port) as client:
        client.send(upgrade(path, more))
        client.head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        assert client.head.startswith("HTTP/1.1 101"), client.head
        yield client


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawClient]:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield client
    finally:
        client.writer.transport.abort()


def upgrade(path: str = "/", more: str = "", version: int = 13) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"{more}\r\n"
    ).encode()
