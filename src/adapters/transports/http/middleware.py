"""Wraps the whole application: what every answer carries, and how a request ends.

Raw ASGI, because only here is it known when a request has really ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextlib import suppress
from typing import Any

from ....domain.bounded_logs import KIND
from ....domain.services import Gateway
from ..routes import RouteTable
from . import access_log, cors
from .allowances import allowance_headers
from .context import CURRENT, RequestContext
from .deadline import ReusableDeadline
from .errors import Problem
from .json_text import dumps
from .requests import check_head, client_of, headers_in, request_id_of

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]

_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_UNLESS_SAID = (b"cache-control", b"no-store")
_LINGER = 2.0
"""Seconds in which the rest of a request's body is still read, and discarded, after the answer."""
_LINGER_BYTES = 32 * 1024 * 1024
"""Bytes of it that are read at most; then the connection is closed."""


class ClientStalled(ConnectionError):
    """The client has not read its answer for so long that it counts as gone."""


class Middleware:
    """An ASGI application around `app`. Of WebSockets only the head is looked at; lifespan passes
    through."""

    def __init__(self, app: Application, gateway: Gateway, table: RouteTable) -> None:
        self._app = app
        self._gateway = gateway
        self._table = table

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket" and (problem := check_head(scope)) is not None:
            await _refuse_upgrade(problem, scope, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        settings = self._gateway.settings
        headers = headers_in(scope["headers"])
        context = RequestContext(
            request_id=request_id_of(headers),
            client=client_of(scope, headers, settings.trusted_proxies),
            limits=self._table.widest(settings),
            headers=headers,
            charge=self._gateway.in_flight.charge(),
        )
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # A proxy in front may have read the other one: nothing that follows is a request.
            # https://www.rfc-editor.org/rfc/rfc9112#section-6.3
            context.response_headers["connection"] = "close"
        if settings.cors_origins:
            cors.admit(context, settings.cors_origins)
        connection = _Connection(self._gateway, context, receive, send)
        token = CURRENT.set(context)
        try:
            try:
                if (problem := check_head(scope)) is not None:
                    await connection.refuse(problem)
                else:
                    await self._app(scope, connection.receive, connection.send)
            finally:
                await context.end()
        except ClientStalled:
            pass  # The access log has it, and the client is gone.
        finally:
            CURRENT.reset(token)
            connection.close()
            context.charge.release()
            access_log.write(scope, context)


class _Connection:
    """Both directions of one request, watched."""

    def __init__(
        self, gateway: Gateway, context: RequestContext, receive: Receive, send: Send
    ) -> None:
        self._gateway = gateway
        self._context = context
        self._receive = receive
        self._send = send
        self._patience: ReusableDeadline | None = None
        """Made for the first write, when the limits of the route are known."""
        self._writer: asyncio.Task[Any] | None = None
        """The one task that writes the response."""
        self._request_over = False
        self._is_over: asyncio.Event | None = None
        """Made when somebody waits for it."""
        self._answered = False
        self._reading = False
        self._discarded = 0

    async def receive(self) -> Message:
        """The next message. A body that nobody will read, and what is past the limit, is emptied:
        otherwise the framework would collect it, whoever sent it."""
        if not self._reading:
            self._reading = True
            self._context.adopt_task()
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._context.left = not self._answered
            self._end_request()
            return message
        context, size = self._context, len(message.get("body", b""))
        before = context.bytes_in
        context.bytes_in += size
        if self._answered:
            self._discarded += size
        if not message.get("more_body", False) or self._discarded > _LINGER_BYTES:
            self._end_request()
        if context.discarding or before > context.limits.body_bytes:
            return {**message, "body": b""}
        return message

    def _end_request(self) -> None:
        self._request_over = True
        if self._is_over is not None:
            self._is_over.set()

    def close(self) -> None:
        """Let go of what watches the connection, and of the task that wrote to it: what refers to
        this would otherwise keep the request until the garbage collector comes."""
        if self._patience is not None:
            self._patience.stop()
        self._writer = None

    async def send(self, message: Message) -> None:
        """Pass a message on. Raises ClientStalled when the client does not take it in time."""
        if message["type"] == "http.response.start":
            self._context.status = message["status"]
            principal = self._context.authenticated
            if principal is not None and principal.key_id:
                left = self._gateway.allowances(principal)
                self._context.response_headers |= allowance_headers(left)
            message = {**message, "headers": _head(self._context, message["headers"])}
        else:
            self._context.bytes_out += len(message.get("body", b""))
            if not message.get("more_body", False):
                await self._end()
        await self._write(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem in the place of the application."""
        self._context.reported(problem)
        self._context.response_headers["connection"] = "close"
        self._context.discarding = True
        await self.send(_start("http.response.start", problem))
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while not self._request_over:
                    await self.receive()
        self._request_over = True
        await self.send({"type": "http.response.body", "body": dumps(problem.envelope)})

    async def _end(self) -> None:
        """Let a client that still sends finish.

        Closing with unread bytes resets the connection, and the client might never see why.
        """
        self._answered = self._context.discarding = True
        # A client that was too slow before is not waited for again.
        if not self._request_over and self._context.status != 408:
            self._is_over = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER):
                    await self._is_over.wait()

    async def _write(self, message: Message) -> None:
        patience = self._patience
        if patience is None:
            self._writer = asyncio.current_task()
            limit = self._context.limits.write_timeout
            patience = self._patience = ReusableDeadline(limit, self._give_up)
        patience.arm()
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if not self._context.stalled:
                raise
            limit = self._context.limits.write_timeout
            raise ClientStalled(f"nothing was read for {limit:g} s") from None
        finally:
            patience.disarm()

    def _give_up(self) -> None:
        self._context.stalled = True
        if self._writer is not None:
            self._writer.cancel()


async def _refuse_upgrade(problem: Problem, scope: Any, send: Send) -> None:
    """Answer an upgrade with a problem; the connection is closed afterwards."""
    client = scope.get("client")
    logger.warning(
        "a connection was refused",
        extra={
            "client": client[0] if client else None,
            "reason": problem.message,
            KIND: "handshakes refused",
        },
    )
    await send(_start("websocket.http.response.start", problem))
    await send({"type": "websocket.http.response.body", "body": dumps(problem.envelope)})


def _start(kind: str, problem: Problem) -> Message:
    length = str(len(dumps(problem.envelope))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    return {"type": kind, "status": problem.status, "headers": headers}


def _head(context: RequestContext, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    head = [*headers, (b"x-request-id", context.request_id.encode()), *_ALWAYS]
    head += [(name.encode(), value.encode()) for name, value in context.response_headers.items()]
    if all(name != _UNLESS_SAID[0] for name, _ in headers):
        head.append(_UNLESS_SAID)
    if context.timings:
        head.append((b"server-timing", _server_timing(context).encode()))
    if cors.ALLOWED in context.response_headers:
        cors.expose(head)
    return head


def _server_timing(context: RequestContext) -> str:
    """https://www.w3.org/TR/server-timing/: durations in milliseconds."""
    timings = dict(context.timings)
    if not context.streaming:
        timings["total"] = context.elapsed
    return ", ".join(f"{name};dur={seconds * 1_000:.2f}" for name, seconds in timings.items())
