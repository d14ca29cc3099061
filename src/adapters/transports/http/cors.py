"""Cross-origin requests of web pages: https://fetch.spec.whatwg.org/#http-cors-protocol

Nothing is sent unless `gateway.http.cors.origins` lists an origin. The header
`Access-Control-Allow-Credentials` is never sent: pages authenticate by a header of their own, and
cookies mean nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from quart import Response

from .context import RequestContext
from .requests import Headers, added_by_proxies

EVERY_ORIGIN = "*"
ALLOWED = "access-control-allow-origin"
_WANTED_METHOD = b"access-control-request-method"
_WANTED_HEADERS = b"access-control-request-headers"
_WANTED_NETWORK = b"access-control-request-private-network"

_ALWAYS_ACCEPTED = (
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "x-api-key",
    "x-request-id",
)
_READABLE = frozenset(
    b"cache-control content-language content-length content-type expires last-modified pragma"
    b" connection date vary".split()
)
"""Headers that pages can read anyway, or never."""
_TOKEN = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_MOST_HEADERS = 64
_MAX_AGE = "600"
"""Seconds that a browser keeps the answer to a preflight. A change of the list takes that long."""


def admit(context: RequestContext, origins: tuple[str, ...]) -> None:
    """Let the page that sent the request read every answer to it, where its origin is listed."""
    origin = context.headers.get(b"origin", b"").decode("latin-1")
    if EVERY_ORIGIN in origins:
        if origin:
            context.response_headers[ALLOWED] = EVERY_ORIGIN
        return
    context.response_headers["vary"] = "Origin"
    if origin.lower() in origins:
        context.response_headers[ALLOWED] = origin


def expose(head: list[tuple[bytes, bytes]]) -> None:
    """Let the page read all headers in the head of a response that it may read."""
    names = {name.lower() for name, _ in head} - _READABLE
    shown = sorted(name for name in names if not name.startswith(b"access-control-"))
    head.append((b"access-control-expose-headers", b", ".join(shown)))


def preflight(context: RequestContext, methods: Iterable[str]) -> Response | None:
    """The answer to the question of a browser whether a page may send a request; None where the
    request is no such question, or the page's origin is not listed."""
    if ALLOWED not in context.response_headers or _WANTED_METHOD not in context.headers:
        return None
    response = Response("", 204)
    del response.headers["content-type"], response.headers["content-length"]
    response.headers["access-control-allow-methods"] = ", ".join(methods)
    response.headers["access-control-allow-headers"] = ", ".join(_accepted(context.headers))
    response.headers["access-control-max-age"] = _MAX_AGE
    by_name = context.response_headers[ALLOWED] != EVERY_ORIGIN
    if by_name and context.headers.get(_WANTED_NETWORK) == b"true":
        # A public page asks for a private address: https://wicg.github.io/private-network-access/
        response.headers["access-control-allow-private-network"] = "true"
    return response


def _accepted(headers: Headers) -> list[str]:
    """The headers that a page may send: those that it asks for, but none that a proxy adds.

    Client libraries send headers of their own (`x-stainless-*`, `http-referer`), which no list
    would keep up with; a proxy's header could claim another address or user.
    """
    wanted = headers.get(_WANTED_HEADERS, b"").lower().split(b",")[:_MOST_HEADERS]
    names = [name.strip() for name in wanted]
    sound = (
        name.decode() for name in names if _TOKEN.fullmatch(name) and not added_by_proxies(name)
    )
    return list(dict.fromkeys((*_ALWAYS_ACCEPTED, *sound)))
