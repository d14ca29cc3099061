"""What is looked at in the head of a WebSocket's upgrade before hypercorn reads it."""

from __future__ import annotations

from hypercorn.protocol.events import Request

_DECODED = (b"connection", b"sec-websocket-protocol")


def is_readable(request: Request) -> bool:
    """Whether hypercorn can decode the headers that it reads of an upgrade: it raises for others,
    and so ends the connection with a traceback."""
    return all(value.isascii() for name, value in request.headers if name.lower() in _DECODED)


def without_extensions(request: Request) -> Request:
    """So that none is negotiated: compressed, a message's size would be anybody's guess."""
    kept = [pair for pair in request.headers if pair[0].lower() != b"sec-websocket-extensions"]
    return Request(**{**vars(request), "headers": kept})
