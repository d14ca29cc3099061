"""Unpacks compressed request bodies in small steps, and never more of one than is allowed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from ....domain.errors import InvalidRequest
from .errors import HttpRejection, Problem

SUPPORTED = "gzip, deflate"
_STEP = 65_536
"""Bytes that one step makes: a few of them take less than a millisecond of the event loop."""
_MOST_MEMBERS = 1_024
"""Files that one gzip body may consist of: also an empty one takes time."""
_ANY_HEADER, _RAW = 32 + zlib.MAX_WBITS, -zlib.MAX_WBITS
_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


def unpacker_for(content_encoding: str) -> Unpacker | None:
    """The decoder for a Content-Encoding; None where there is none. Raises HttpRejection.

    https://www.rfc-editor.org/rfc/rfc9110#section-8.4
    """
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return None
    if len(codings) == 1 and codings[0] in _NAMES:
        return Unpacker(_NAMES[codings[0]])
    raise HttpRejection(
        Problem(
            415,
            f"The content encoding {', '.join(codings)[:100]!r} is not supported. Send the body "
            f"uncompressed, or with one of these encodings: {SUPPORTED}.",
            "unsupported_content_encoding",
            headers={"Accept-Encoding": SUPPORTED},
        )
    )


class Unpacker:
    """The plain bytes of one compressed body."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = zlib.decompressobj(_ANY_HEADER)
        self._members = 1
        self._head: bytes | None = b"" if name == "deflate" else None

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """What `packed`, the next piece of the body, unpacks to; each item is one bounded step,
        so that the caller can stop between two. Raises InvalidRequest."""
        packed = self._after_head(packed)
        while packed:
            if self._stream.eof and not (packed := self._next_member(packed)):
                return
            plain = self._step(packed)
            packed = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            yield plain
        # Input can be taken whole while a part of its output still waits.
        while not self._stream.eof and (plain := self._step(b"")):
            yield plain

    def finish(self) -> None:
        """Raises InvalidRequest for a body that ends too early."""
        if not self._stream.eof:
            raise self._corrupt("it is cut short")

    def _after_head(self, packed: bytes) -> bytes:
        """Some clients send deflate without the header of zlib, which the first bytes show:
        https://www.rfc-editor.org/rfc/rfc1950#section-2.2"""
        if self._head is None:
            return packed
        self._head += packed
        if len(self._head) < 2:
            return b""
        packed, self._head = self._head, None
        if packed[0] & 0x0F != zlib.DEFLATED or int.from_bytes(packed[:2]) % 31:
            self._stream = zlib.decompressobj(_RAW)
        return packed

    def _step(self, packed: bytes) -> bytes:
        try:
            return self._stream.decompress(packed, _STEP)
        except zlib.error as error:
            raise self._corrupt(str(error)) from None

    def _next_member(self, packed: bytes) -> bytes:
        """A gzip body may be several files, one after the other, and padded with zeros."""
        packed = packed.lstrip(b"\0")
        if not packed:
            return b""
        if self._name != "gzip":
            raise self._corrupt("something follows its end")
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise self._corrupt(f"it consists of more than {_MOST_MEMBERS} files")
        self._stream = zlib.decompressobj(_ANY_HEADER)
        return packed

    def _corrupt(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"The body cannot be unpacked as {self._name}: {why}.")
