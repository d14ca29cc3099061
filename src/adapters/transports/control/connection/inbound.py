"""Holds a client back while its messages wait: Quart's own queue of them has no end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypercorn.typing import ASGIReceiveCallable, WebsocketScope
from quart.asgi import ASGIWebsocketConnection
from quart.signals import websocket_received

from ..protocol import Wire, wire_of

if TYPE_CHECKING:
    from quart import Quart

_MESSAGES = 16
_BYTES = 1_048_576


class BoundedConnection(ASGIWebsocketConnection):
    """Set as an application's `asgi_websocket_class`.

    While its queue is full nothing more is received, which reaches the client by TCP. The end of
    the connection is noticed all the same.
    """

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self._wire = wire_of(scope)
        self.queue = _BoundedQueue(self._wire)

    async def handle_messages(self, receive: ASGIReceiveCallable) -> None:
        """Queue what arrives; return when nothing more will."""
        receiving = asyncio.ensure_future(self._receive_all(receive))
        ending = asyncio.ensure_future(self._wire.ended())
        try:
            await asyncio.wait({receiving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
        finally:
            receiving.cancel()
            ending.cancel()

    async def _receive_all(self, receive: ASGIReceiveCallable) -> None:
        while await self._receive_one(receive):
            pass

    async def _receive_one(self, receive: ASGIReceiveCallable) -> bool:
        """False at the end. A function of its own, so that no message is kept while the next one is
        waited for."""
        event = await receive()
        if event["type"] == "websocket.receive":
            data = event.get("bytes")
            # An empty message is one, too: `or` would lose it.
            message = event["text"] if data is None else data
            await websocket_received.send_async(message)
            await self.queue.put(message)
        return event["type"] != "websocket.disconnect"


class _BoundedQueue(asyncio.Queue[Any]):
    """Full with a number of messages, or with fewer large ones; a single one always fits.

    While the client is unknown, and its messages are limited, no more than one such waits.
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._sizes = 0

    def full(self) -> bool:
        most = min(_BYTES, self._wire.limit) if self._wire.limit else _BYTES
        return self.qsize() >= _MESSAGES or self._sizes >= most

    def _put(self, item: Any) -> None:
        super()._put(item)
        self._sizes += len(item)

    def _get(self) -> Any:
        item = super()._get()
        self._sizes -= len(item)
        return item
