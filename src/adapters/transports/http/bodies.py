"""Reads a request's body as a stream, within the limits in force, and as JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeVar

from ....domain.concurrency import off_loop
from ....domain.errors import InvalidRequest
from ....domain.settings import ChatEndpointSettings
from .context import RequestContext
from .errors import HttpRejection, Problem
from .json_text import read_bounded
from .requests import Headers
from .unpacking import Unpacker, unpacker_for

T = TypeVar("T")

_JSON = re.compile(r"(application|text)/(json|[a-z0-9.!#$&^_-]+\+json)\s*(;.*)?", re.IGNORECASE)
_MOST_DIGITS = 18
_IDENTIFIERS = frozenset({"model", "user"})
_KEYS = "gateway.http.endpoints.chatCompletions"


async def read_object(
    pieces: AsyncIterable[bytes],
    context: RequestContext,
    settings: ChatEndpointSettings,
    read: Callable[[dict[str, Any]], T],
) -> T:
    """What `read` makes of the JSON object that a request carries in the `pieces` of its body. A
    large one is parsed and read in a thread.

    Raises HttpRejection (415, 413, 408), InvalidRequest, GatewayBusy, and what `read` raises. The
    settings' keys are named in refusals.
    """
    _require_json(context.headers)
    unpacker = unpacker_for(context.headers.get(b"content-encoding", b"").decode("latin-1"))
    if _length(context.headers) > context.body_limit:
        raise _too_large(context.body_limit)
    plain = pieces if unpacker is None else _unpacked(pieces, unpacker)
    body = await _read(plain, settings.body_timeout, context)
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


async def _read(pieces: AsyncIterable[bytes], patience: float, context: RequestContext) -> bytes:
    body, limit = bytearray(), context.body_limit
    try:
        async with asyncio.timeout(patience):
            async for piece in pieces:
                if len(body) + len(piece) > limit:
                    raise _too_large(limit)
                context.charge.add(len(piece))
                body += piece
    except TimeoutError:
        raise _too_slow(patience) from None
    return bytes(body)


def _too_large(limit: int) -> HttpRejection:
    message = f"The body is larger than {limit} bytes ({_KEYS}.maxBodyBytes)."
    return HttpRejection(Problem(413, message, "request_too_large"))


def _too_slow(patience: float) -> HttpRejection:
    message = f"The body was not complete after {patience:g} s ({_KEYS}.bodyTimeoutMs)."
    return HttpRejection(Problem(408, message, "request_timeout"))
