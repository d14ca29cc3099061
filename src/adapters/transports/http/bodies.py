"""Reads a request's body as a stream, within the limits in force, and as JSON."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from quart import Request

from ....domain.errors import InvalidRequest
from ....domain.settings import ChatEndpointSettings
from .errors import Problem, Refused
from .json_text import loads

_JSON = re.compile(r"(application|text)/(json|[a-z0-9.!#$&^_-]+\+json)\s*(;.*)?", re.IGNORECASE)
_KEYS = "gateway.http.endpoints.chatCompletions"


async def read_object(
    request: Request, settings: ChatEndpointSettings, body_limit: int
) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises Refused (415, 413, 408) and InvalidRequest. The settings' keys are named in refusals.
    """
    _require_json(request)
    body = await _read(request, settings.body_timeout, body_limit)
    if not body:
        raise InvalidRequest("The body is empty; it must be a JSON object.")
    value = loads(body)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return value


def _require_json(request: Request) -> None:
    """A missing content type is taken for JSON: many hand-written clients send none."""
    content_type = request.headers.get("Content-Type", "").strip()
    if content_type and not _JSON.fullmatch(content_type):
        raise Refused(
            Problem(
                415,
                f"The content type {content_type[:100]!r} is not understood. "
                "Send JSON with the header Content-Type: application/json.",
                "unsupported_media_type",
            )
        )


async def _read(request: Request, patience: float, limit: int) -> bytes:
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for chunk in request.body:
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise _too_slow(patience) from None
    return bytes(body)


def _too_large(limit: int) -> Refused:
    message = f"The body is larger than {limit} bytes ({_KEYS}.maxBodyBytes)."
    return Refused(Problem(413, message, "request_too_large"))


def _too_slow(patience: float) -> Refused:
    message = f"The body was not complete after {patience:g} s ({_KEYS}.bodyTimeoutMs)."
    return Refused(Problem(408, message, "request_timeout"))
