"""Unpacks compressed request bodies in small steps, and never more of one than is allowed."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterator
from typing import Any, TypeVar

from quart.wrappers.request import Body

from ....domain.concurrency import off_loop
from ....domain.errors import InvalidRequest
from ..routes import Limits
from .context import RequestContext, current
from .errors import HttpRejection, Problem
from .json_text import read_bounded
from .requests import Headers

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


T = TypeVar("T")

_JSON = re.compile(r"(application|text)/(json|[a-z0-9.!#$&^_-]+\+json)\s*(;.*)?", re.IGNORECASE)
_MOST_DIGITS = 18
_IDENTIFIERS = frozenset({"model", "user", "user_id"})


class NotAnObject(InvalidRequest):
    """A body that is valid JSON, but no object."""


class BoundedBody(Body):
    """A body within the limit of its route, however a view reads it.

    The middleware keeps no pieces past the limit: without this check, a view would take the
    beginning of a body for the whole.
    """

    async def __anext__(self) -> bytes:
        piece = await super().__anext__()
        _check_size(current())
        return piece

    def __await__(self) -> Generator[Any, None, bytes]:
        body: bytes = yield from super().__await__()
        context = current()
        _check_size(context)
        context.charge.raise_to(len(body))
        return body


def _check_size(context: RequestContext) -> None:
    if context.bytes_in > context.limits.body_bytes:
        raise _too_large(context.limits)


async def read_object(
    pieces: AsyncIterable[bytes],
    context: RequestContext,
    read: Callable[[dict[str, Any]], T],
) -> T:
    """What `read` makes of the JSON object in the body, which arrives in `pieces`. A large one is
    parsed and read in a thread.

    Raises HttpRejection (415, 413, 408), InvalidRequest, GatewayBusy, and what `read` raises.
    """
    require_json(context.headers)
    body = await read_body(pieces, context)
    if not body:
        raise InvalidRequest("The body is empty; it must be a JSON object.")
    return await off_loop(len(body), lambda: read(_object(body)))


async def read_body(pieces: AsyncIterable[bytes], context: RequestContext) -> bytes:
    """The body, unpacked. Raises HttpRejection (415, 413, 408), InvalidRequest, GatewayBusy."""
    unpacker = unpacker_for(context.headers.get(b"content-encoding", b"").decode("latin-1"))
    if _length(context.headers) > context.limits.body_bytes:
        raise _too_large(context.limits)
    return await _read(pieces if unpacker is None else _unpacked(pieces, unpacker), context)


def _object(body: bytes) -> dict[str, Any]:
    value = read_bounded(body, identifiers=_IDENTIFIERS)
    if not isinstance(value, dict):
        raise NotAnObject("The body must be a JSON object.")
    return value


async def _unpacked(pieces: AsyncIterable[bytes], unpacker: Unpacker) -> AsyncIterator[bytes]:
    async for packed in pieces:
        for plain in unpacker.feed(packed):
            yield plain
            await asyncio.sleep(0)  # Others get their turn: a small piece can unpack to a lot.
    unpacker.finish()


def require_json(headers: Headers) -> None:
    """Raises HttpRejection (415). A missing content type is taken for JSON: many hand-written
    clients send none."""
    content_type = headers.get(b"content-type", b"").decode("latin-1").strip()
    if content_type and not _JSON.fullmatch(content_type):
        raise HttpRejection(
            Problem(
                415,
                f"The content type {content_type[:100]!r} is not understood. "
                "Send JSON with the header Content-Type: application/json.",
                "unsupported_media_type",
            )
        )


def _length(headers: Headers) -> int:
    """What the head says the body has, in bytes; 0 where it does not say. (A body in chunks ends
    with its last, whatever else is said: https://www.rfc-editor.org/rfc/rfc9112#section-6.3)"""
    length = headers.get(b"content-length", b"")
    if b"transfer-encoding" in headers or not length.isdigit():
        return 0
    return int(length[:_MOST_DIGITS])


async def _read(pieces: AsyncIterable[bytes], context: RequestContext) -> bytes:
    body, limits = bytearray(), context.limits
    try:
        async with asyncio.timeout(limits.body_timeout):
            async for piece in pieces:
                if len(body) + len(piece) > limits.body_bytes:
                    raise _too_large(limits)
                context.charge.add(len(piece))
                body += piece
    except TimeoutError:
        raise _too_slow(limits) from None
    return bytes(body)


def _too_large(limits: Limits) -> HttpRejection:
    named = f" ({limits.setting}.maxBodyBytes)" if limits.setting else ""
    message = f"The body is larger than {limits.body_bytes} bytes{named}."
    return HttpRejection(Problem(413, message, "request_too_large"))


def _too_slow(limits: Limits) -> HttpRejection:
    named = f" ({limits.setting}.bodyTimeoutMs)" if limits.setting else ""
    message = f"The body was not complete after {limits.body_timeout:g} s{named}."
    return HttpRejection(Problem(408, message, "request_timeout"))
