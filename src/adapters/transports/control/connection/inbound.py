"""Applies backpressure to incoming messages, which Quart queues without a limit."""

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
    """An application's `asgi_websocket_class`.

    While the queue is full, nothing is received, and TCP slows the client down. The end of the
    connection is detected nevertheless, through `Wire.ended`.
    """

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self._wire = wire_of(scope)
        self.queue = _BoundedQueue(self._wire)

    async def handle_messages(self, receive: ASGIReceiveCallable) -> None:
        """Queue incoming messages until the connection ends."""
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
        """False at the end. A separate function, so that no local variable keeps a message alive
        while the next one is awaited."""
        event = await receive()
        if event["type"] == "websocket.receive":
            data = event.get("bytes")
            # Not `or`: an empty message counts.
            message = event["text"] if data is None else data
            await websocket_received.send_async(message)
            await self.queue.put(message)
        return event["type"] != "websocket.disconnect"


class _BoundedQueue(asyncio.Queue[Any]):
    """Limited by the number and the total size of messages; a single message always fits.

    Before authentication the size limit is that of one message (`Wire.limit`).
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
