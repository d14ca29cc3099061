"""The type and the size of a picture, by its structure.

Nothing is decompressed: a picture that a decoder would make too much of is refused by the size in
its head. The structure is followed to its end, so that a picture that was cut off is found.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_BLOCKS = 200_000
"""Chunks, segments or blocks of one picture; ten megabytes of common pictures have a fifth."""
_PNG_CHUNK = struct.Struct(">I4s")
_BIG = struct.Struct(">I")
_PNG_SIZE = struct.Struct(">II")
_JPEG_SIZE = struct.Struct(">HH")
_LITTLE_SIZE = struct.Struct("<HH")
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers of JPEG without a segment."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9


class BadPicture(Exception):
    """The bytes are no picture that can be decoded; the message says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    mime: str
    width: int
    height: int


def picture_of(data: bytes) -> Picture:
    """What the bytes are. Raises BadPicture."""
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _gif(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (IndexError, struct.error) as error:
        raise BadPicture("it is cut off") from error
    raise BadPicture("it is neither PNG, JPEG, GIF nor WebP")


def _sized(mime: str, width: int, height: int) -> Picture:
    if not width or not height:
        raise BadPicture("its width or its height is 0")
    return Picture(mime, width, height)


def _png(data: bytes) -> Picture:
    """https://www.w3.org/TR/png-3/#5DataRep"""
    view, place, found, has_data = memoryview(data), len(_PNG), None, False
    for _ in range(_MAX_BLOCKS):
        if place + 12 > len(data):
            raise BadPicture("it is cut off")
        length, kind = _PNG_CHUNK.unpack_from(data, place)
        end = place + 12 + length
        if end > len(data):
            raise BadPicture("it is cut off")
        (checksum,) = _BIG.unpack_from(data, end - 4)
        if zlib.crc32(view[place + 4 : end - 4]) != checksum:
            raise BadPicture("it is damaged: the checksum of a chunk is wrong")
        if found is None:
            if kind != b"IHDR" or length != 13:
                raise BadPicture("it has no head")
            found = _sized("image/png", *_PNG_SIZE.unpack_from(data, place + 8))
        has_data = has_data or kind == b"IDAT"
        if kind == b"IEND":
            if not has_data:
                raise BadPicture("it has no data")
            return found
        place = end
    raise BadPicture("it has too many chunks")


def _jpeg(data: bytes) -> Picture:
    """https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B"""
    place, found = 2, None
    for _ in range(_MAX_BLOCKS):
        if data[place] != 0xFF:
            raise BadPicture("it is damaged: a marker is missing")
        marker = data[place + 1]
        if marker == 0xFF:  # A fill byte.
            place += 1
            continue
        place += 2
        if marker in _NO_LENGTH:
            continue
        if marker == _END:
            raise BadPicture("it has no data")
        if marker in _FRAMES and found is None:
            height, width = _jpeg_size(data, place)
            found = _sized("image/jpeg", width, height)
        if marker == _SCAN:
            if found is None:
                raise BadPicture("it has no head")
            if data.rfind(b"\xff\xd9", place) < 0:
                raise BadPicture("it is cut off")
            return found
        length = data[place] << 8 | data[place + 1]
        if length < 2:
            raise BadPicture("it is damaged: a segment is too short")
        place += length
    raise BadPicture("it has too many segments")


def _jpeg_size(data: bytes, place: int) -> tuple[int, int]:
    if place + 7 > len(data):
        raise BadPicture("it is cut off")
    height, width = _JPEG_SIZE.unpack_from(data, place + 3)
    return height, width


def _gif(data: bytes) -> Picture:
    """https://www.w3.org/Graphics/GIF/spec-gif89a.txt; the largest of the screen and the frames."""
    if len(data) < 13:
        raise BadPicture("it is cut off")
    width, height = _LITTLE_SIZE.unpack_from(data, 6)
    place, frames, blocks = 13 + _palette(data[10]), 0, 0
    while data[place] != 0x3B:
        kind = data[place]
        if kind == 0x2C:
            frame_width, frame_height = _LITTLE_SIZE.unpack(data[place + 5 : place + 9])
            width, height = max(width, frame_width), max(height, frame_height)
            frames += 1
            place += 11 + _palette(data[place + 9])
        elif kind == 0x21:
            place += 2
        else:
            raise BadPicture("it is damaged: a block is unknown")
        while size := data[place]:
            place += 1 + size
            blocks += 1
            if blocks > _MAX_BLOCKS:
                raise BadPicture("it has too many blocks")
        place += 1
        blocks += 1
        if blocks > _MAX_BLOCKS:
            raise BadPicture("it has too many blocks")
    if not frames:
        raise BadPicture("it has no data")
    return _sized("image/gif", width, height)


def _palette(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp(data: bytes) -> Picture:
    """https://developers.google.com/speed/webp/docs/riff_container"""
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise BadPicture("it is cut off")
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise BadPicture("it is cut off")
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (size & 0x3FFF for size in _LITTLE_SIZE.unpack(body[6:10]))
    else:
        raise BadPicture("it has no head")
    return _sized("image/webp", width, height)
