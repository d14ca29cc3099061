"""A small application served as the Gateway is, whose WebSockets show what they were given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from quart import Quart, request, websocket

from opensoul.adapters.transports.control.connection.inbound import BoundedConnection
from opensoul.adapters.transports.control.protocol.socket_control import Wire, wire_of
from opensoul.app.lifecycle import Lifecycle, Stopping
from opensoul.app.server.host import open_sockets, serve_until
from opensoul.app.server.hypercorn import PeerConnections, Timing
from opensoul.domain.settings import ListenSettings, Settings
from tests.fakes.domain import settings

LARGER = 1_000_000


@dataclass
class Served:
    port: int = 0
    wires: list[Wire] = field(default_factory=list)
    taken: list[str | bytes] = field(default_factory=list)
    sends: list[Callable[..., Any]] = field(default_factory=list)
    """hypercorn's `send` of each request and WebSocket."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """A request or WebSocket has reached the application."""
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """The handler ended, by itself or with the connection."""
    read_on: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """The server has begun to leave, and the event loop has been through its connections."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """The server has ended."""


class NoLifecycle(Lifecycle):
    """Of an application with nothing beside its requests."""

    def __init__(self, served: Served, stopping: Stopping) -> None:
        self._served = served
        self._stopping = stopping

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def begin_leaving(self) -> Stopping:
        asyncio.get_running_loop().call_soon(self._served.leaving.set)
        return self._stopping

    def begin_drain(self) -> None: ...

    @property
    def settings(self) -> Settings:
        return settings()


def make_app(served: Served) -> Quart:
    app = Quart(__name__)
    app.asgi_websocket_class = BoundedConnection
    # Or else Quart would close with 1000 what failed.
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @asynccontextmanager
    async def watched() -> AsyncIterator[Wire]:
        wire = wire_of(websocket.scope)
        served.wires.append(wire)
        served.connected.set()
        try:
            yield wire
        finally:
            served.left.set()

    @app.websocket("/")
    async def echo() -> None:
        async with watched() as wire:
            while True:
                message = await websocket.receive()
                if message == "raise the limit":
                    wire.limit, wire.limit_reason = LARGER, "payload too large"
                    wire.authenticated = True
                if message == "close":
                    await websocket.close(4001, "as asked")
                if message == "return":
                    return
                served.taken.append(message)
                await websocket.send(message)

    @app.websocket("/talkative")
    async def talkative() -> None:
        async with watched():
            while True:
                await websocket.send("x" * 100_000)

    @app.websocket("/slow")
    async def slow() -> None:
        async with watched() as wire:
            wire.authenticated = True
            await websocket.accept()
            await served.read_on.wait()
            while True:
                served.taken.append(await websocket.receive())
                await websocket.send(str(len(served.taken)))

    @app.websocket("/broken")
    async def broken() -> None:
        async with watched():
            await websocket.accept()
            raise LookupError("of the tests")

    @app.get("/held")
    async def held() -> Any:
        async def parts() -> AsyncIterator[str]:
            yield "begun "
            await served.read_on.wait()
            yield "ended"

        return parts()

    @app.post("/body")
    async def body() -> str:
        return str(len(await request.get_data()))

    @app.websocket("/refused")
    async def refused() -> tuple[str, int]:
        return "Not now", 503

    answer = app.asgi_app

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            served.sends.append(send)
            served.begun.set()
        await answer(scope, receive, send)

    app.asgi_app = noting  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def serving(
    timing: Timing = Timing(),  # noqa: B008 (frozen)
    peers: PeerConnections | None = None,
    *,
    http2: bool = False,
    stopping: Stopping = Stopping(linger=0.0, grace=0.0),  # noqa: B008 (frozen)
) -> AsyncIterator[Served]:
    """Serve on a free port of this machine alone."""
    served = Served()
    listen = ListenSettings(hosts=("127.0.0.1",), port=0, http2=http2)
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(
        serve_until(
            served.stop,
            make_app(served),
            NoLifecycle(served, stopping),
            listen,
            open_sockets(listen),
            ready.set_result,
            websockets=timing,
            peers=peers,
        )
    )
    server.add_done_callback(lambda _: served.over.set())
    served.port = await ready
    try:
        yield served
    finally:
        served.stop.set()
        await server
