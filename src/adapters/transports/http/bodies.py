"""Reads a request's body as a stream, within the limits in force, and as JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator
from typing import Any, TypeVar

from quart.wrappers.request import Body

from ....domain.concurrency import off_loop
from ....domain.errors import InvalidRequest
from ..routes import Limits
from .context import RequestContext, current
from .errors import HttpRejection, Problem
from .json_text import read_bounded
from .requests import Headers
from .unpacking import Unpacker, unpacker_for

T = TypeVar("T")

_JSON = re.compile(r"(application|text)/(json|[a-z0-9.!#$&^_-]+\+json)\s*(;.*)?", re.IGNORECASE)
_MOST_DIGITS = 18
_IDENTIFIERS = frozenset({"model", "user"})


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
    _require_json(context.headers)
    unpacker = unpacker_for(context.headers.get(b"content-encoding", b"").decode("latin-1"))
    if _length(context.headers) > context.limits.body_bytes:
        raise _too_large(context.limits)
    plain = pieces if unpacker is None else _unpacked(pieces, unpacker)
    body = await _read(plain, context)
    if not body:
        raise InvalidRequest("The body is empty; it must be a JSON object.")
    return await off_loop(len(body), lambda: read(_object(body)))


def _object(body: bytes) -> dict[str, Any]:
    value = read_bounded(body, identifiers=_IDENTIFIERS)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return value


async def _unpacked(pieces: AsyncIterable[bytes], unpacker: Unpacker) -> AsyncIterator[bytes]:
    async for packed in pieces:
        for plain in unpacker.feed(packed):
            yield plain
            await asyncio.sleep(0)  # Others get their turn: a small piece can unpack to a lot.
    unpacker.finish()


def _require_json(headers: Headers) -> None:
    """A missing content type is taken for JSON: many hand-written clients send none."""
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
