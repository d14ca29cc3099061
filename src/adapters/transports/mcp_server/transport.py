"""The routes of the MCP server. The `mcp` package is imported by the first request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from quart import Response, request
from werkzeug.datastructures import Headers

from ....domain.access import Scope
from ....domain.errors import ShuttingDown
from ....domain.ports import Clock
from ....domain.services import Approvals, Gateway
from ....domain.settings import Settings
from ..answering import ignored_names
from ..http.bodies import read_body, require_json
from ..http.context import current
from ..http.hosts import check_origin
from ..http.json_text import check_text
from ..routes import Limits, Route, Transport
from ..switches import MCP_SWITCH, answer_limits
from . import operations
from .calls import Calls
from .exchange import Exchange, Message

if TYPE_CHECKING:
    from .server import AgentServer

_MOST_BYTES = 1024 * 1024
"""Of a message, which is a text: it is parsed on the event loop."""
_MOST_VALUES = 20_000
_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the configuration has changed."""


def transport(
    gateway: Gateway,
    approvals: Approvals,
    *,
    clock: Clock,
    version: str,
    look_every: float = _LOOK_EVERY,
) -> Transport:
    """`version`: of the Gateway. `clock`: monotonic."""
    calls = Calls(gateway, approvals, clock)
    endpoint = _Endpoint(gateway, calls, version, look_every)
    route = partial(Route, "/mcp", limits=_limits, switch=MCP_SWITCH)
    message, stream, end = (
        "A message to the MCP server whose tools are the agents.",
        "What the MCP server notifies its client of.",
        "End a session of the MCP server.",
    )
    of = operations
    return Transport(
        "mcp_server",
        (
            route(
                *("POST", Scope.WRITE, endpoint.answer, message),
                operation=of.message,
                errors=(404, 406, 500),
            ),
            route(
                *("GET", Scope.WRITE, endpoint.answer, stream),
                operation=of.stream,
                errors=(400, 404, 406, 409),
            ),
            route(
                *("DELETE", Scope.WRITE, endpoint.answer, end),
                operation=of.end,
                errors=(400, 404),
            ),
        ),
        stop=endpoint.stop,
    )


def _limits(settings: Settings) -> Limits:
    limits = answer_limits(settings)
    if limits.body_bytes <= _MOST_BYTES:
        return limits
    return replace(limits, body_bytes=_MOST_BYTES, setting="")


class _Endpoint:
    """The view, and the server behind it."""

    def __init__(self, gateway: Gateway, calls: Calls, version: str, look_every: float) -> None:
        self._gateway = gateway
        self._calls = calls
        self._version = version
        self._look_every = look_every
        self._starting = asyncio.Lock()
        self._server: AgentServer | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopped = False

    async def answer(self) -> Response:
        context = current()
        check_origin(context.headers, self._gateway.settings)
        headers = request.scope["headers"]
        if request.method == "POST":
            require_json(context.headers)
            if b"content-type" not in context.headers:  # The package demands one.
                headers = [*headers, (b"content-type", b"application/json")]
        body = await read_body(request.body, context)
        check_text(body, _MOST_VALUES)
        if ignored := ignored_names("", context.headers):
            context.response_headers["x-opensoul-ignored"] = ignored
        server = await self._serving()
        exchange = await context.enter(Exchange(context))
        context.adopt_task()
        if request.method == "GET":
            hold = self._gateway.access.hold(context.principal, lambda _: exchange.leave())
            exchange.parts.enter_context(hold)
        head = await server.answer(exchange, request.method, headers, body)
        return _response(head, exchange)

    async def stop(self) -> None:
        """End all sessions."""
        self._stopped = True
        if self._server is not None and self._running is not None:
            self._server.stop()
            await self._running

    async def _serving(self) -> AgentServer:
        """The server, started where it is not."""
        async with self._starting:
            if self._stopped:
                raise ShuttingDown("The Gateway is shutting down.")
            if self._server is None or self._running is None or self._running.done():
                module = await asyncio.to_thread(import_module, ".server", __package__)
                server: AgentServer = module.AgentServer(
                    self._gateway, self._calls, version=self._version, body_bytes=_MOST_BYTES
                )
                ready = asyncio.get_running_loop().create_future()
                self._running = asyncio.create_task(server.run(ready, every=self._look_every))
                await asyncio.wait({ready, self._running}, return_when=asyncio.FIRST_COMPLETED)
                if self._running.done():
                    await self._running
                self._server = server
            return self._server


def _response(head: Message, exchange: Exchange) -> Response:
    response = Response(exchange.body(), head["status"])
    response.timeout = None
    # HTTP/2 has no such header, and elsewhere it is the server's.
    pairs = ((n.decode(), v.decode("latin-1")) for n, v in head["headers"] if n != b"connection")
    response.headers = Headers(pairs)
    exchange.context.streaming = response.mimetype == "text/event-stream"
    return response
