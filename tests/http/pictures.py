"""Small pictures, made byte by byte."""

from __future__ import annotations

import base64
import struct
import zlib


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(width: int = 1, height: int = 1, *more: bytes) -> bytes:
    """A picture that says how large it is, whatever it has in it."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + data + chunk(b"IEND", b"")


def jpeg(width: int = 1, height: int = 1) -> bytes:
    frame = struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0)
    scan = struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0)
    comment = b"\xff\xfe\x00\x04hi"
    return b"\xff\xd8" + comment + b"\xff\xff\xc0" + frame + b"\xff\xda" + scan + b"\x12\xff\xd9"


def gif(width: int = 1, height: int = 1, frame: tuple[int, int] | None = None) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    extension = b"\x21\xf9\x04\0\0\0\0\0"
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, *(frame or (width, height)), 0)
    return b"GIF89a" + screen + extension + image + b"\x02\x02\x44\x01\x00" + b"\x3b"


def riff(kind: bytes, body: bytes) -> bytes:
    chunks = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def webp(width: int = 1, height: int = 1) -> bytes:
    return riff(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height))


def webp_lossless(width: int = 1, height: int = 1) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return riff(b"VP8L", b"\x2f" + struct.pack("<I", bits) + bytes(5))


def webp_extended(width: int = 1, height: int = 1) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(b"VP8X", bytes(4) + sizes)


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
