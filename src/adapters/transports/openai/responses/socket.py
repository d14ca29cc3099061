"""Responses over WebSocket, on the path of `POST /v1/responses`: a connection for many responses,
one after the other.

The client sends the body of a request with the type `response.create`, and gets the events of the
stream as messages. What was refused is an event of the type `error`.
https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from quart import Response, websocket

from .....domain.access import Scope, authorize
from .....domain.bounded_logs import KIND
from .....domain.byte_budget import NO_CHARGE
from .....domain.concurrency import drop_tracebacks
from .....domain.errors import GatewayError, InvalidRequest, ModelFailed, Unsupported
from .....domain.responses import StoredResponse
from .....domain.services import Gateway
from .....domain.settings import AuthMode
from ...answering import BegunRun
from ...control.protocol import Wire, wire_of
from ...http import HttpRejection, Problem, access_log
from ...http.bodies import read_object
from ...http.context import RequestContext
from ...http.errors import INTERNAL_ERROR, answer, problem_of
from ...http.hosts import check_page
from ...http.json_text import dumps
from ...http.requests import (
    client_of,
    credential_of,
    headers_in,
    narrowed,
    request_id_of,
)
from ...switches import RESPONSES_SWITCH, answer_limits
from .frames import Frames
from .request import ResponsesRequest, param_of, read_request

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
_LONGEST = 3_600.0
"""Seconds of one connection, as OpenAI has it."""
_CREATE = "response.create"
_DATA = b"data: "
_DONE = b"data: [DONE]"
_MOST_LAYERS = 64 * 1024
"""Bytes of the layers of the newest response; one with more is only found where it is stored."""
_RESTART, _TOO_SLOW, _NO_LONGER_VALID, _FAILED = 1012, 1008, 4001, 1011
_REACHED = (
    "Responses websocket connection limit reached (60 minutes). Create a new websocket connection "
    "to continue."
)


class Begins(Protocol):
    """What begins a response, and writes its events."""

    async def begin(
        self,
        context: RequestContext,
        asked: ResponsesRequest,
        local: Mapping[str, StoredResponse] | None = None,
    ) -> tuple[BegunRun, StoredResponse]: ...

    def frames(self, response: StoredResponse) -> Frames: ...


class _Closing(Exception):
    """The connection is to be closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Upgrades:
    """Answers upgrades: authenticates a client and serves its connection, or refuses it."""

    def __init__(self, gateway: Gateway, begins: Begins) -> None:
        self._gateway = gateway
        self._begins = begins
        self._connections: set[_Connection] = set()
        self._stopping = False

    async def enter(self) -> Response | None:
        """One connection, from the upgrade to its end; a Response where it is not upgraded."""
        scope: dict[str, Any] = websocket.scope  # type: ignore[assignment]
        settings = self._gateway.settings
        headers = headers_in(scope["headers"])
        context = RequestContext(
            request_id=request_id_of(headers),
            client=client_of(scope, headers, settings.trusted_proxies),
            headers=headers,
        )
        try:
            await self._admit(context)
        except (GatewayError, HttpRejection) as error:
            drop_tracebacks(error)
            problem = error.problem if isinstance(error, HttpRejection) else problem_of(error)
            extra = {"client": context.client.address, "reason": problem.message}
            logger.warning("a connection was refused", extra={**extra, KIND: "handshakes refused"})
            return answer(problem)
        connection = _Connection(self._gateway, self._begins, context, wire_of(scope))
        self._connections.add(connection)
        try:
            await websocket.accept()
            await connection.serve()
        finally:
            self._connections.discard(connection)
        return None

    async def stop(self) -> None:
        """Close all connections. Their runs have ended."""
        self._stopping = True
        for connection in tuple(self._connections):
            connection.close(_RESTART, "service restart")

    async def _admit(self, context: RequestContext) -> None:
        """The checks of a request to the path. Raises GatewayError, HttpRejection."""
        gateway, settings = self._gateway, self._gateway.settings
        if settings.auth.mode is AuthMode.NONE:
            check_page(context.headers, context.client, settings)
        principal = await gateway.authenticate(credential_of(context.headers, context.client))
        context.authenticated = narrowed(principal, context.headers)
        authorize(context.principal, Scope.WRITE)
        if not RESPONSES_SWITCH.is_on(settings):
            message = f"Set {RESPONSES_SWITCH.key} to true to switch the endpoint on."
            raise HttpRejection(Problem(404, message, "endpoint_disabled"))
        if self._stopping or len(self._connections) >= MAX_CONNECTIONS:
            message = f"All {MAX_CONNECTIONS} connections are in use. Try again later."
            raise HttpRejection(Problem(503, message, "gateway_busy", retry_after=1.0))


class _Connection:
    """One connection. `upgrade`: the context of its upgrade, whose headers count for each of its
    responses."""

    def __init__(
        self, gateway: Gateway, begins: Begins, upgrade: RequestContext, wire: Wire
    ) -> None:
        self._gateway = gateway
        self._begins = begins
        self._upgrade = upgrade
        self._wire = wire
        self._headers = {k: v for k, v in upgrade.headers.items() if k != b"idempotency-key"}
        self._closing: asyncio.Future[_Closing] = asyncio.get_running_loop().create_future()
        self._local: dict[str, StoredResponse] = {}
        """The newest response, which need not be stored to be followed on this connection."""

    def close(self, code: int, reason: str) -> None:
        """Have the connection closed, once no response is being sent."""
        if not self._closing.done():
            self._closing.set_result(_Closing(code, reason))

    async def serve(self) -> None:
        """Answer messages until the connection is to be closed. Cancelled when the client
        leaves."""
        gateway, wire = self._gateway, self._wire
        received = gateway.in_flight.charge()
        wire.limit = answer_limits(gateway.settings).body_bytes
        wire.limit_reason = "message too large"
        wire.authenticated = True
        wire.charge_to(received)
        ends = partial(self.close, _NO_LONGER_VALID)
        hold = gateway.access.hold(self._upgrade.principal, ends)
        timer = asyncio.get_running_loop().call_later(_LONGEST, self._expire)
        try:
            while True:
                await self._answer(await self._next())
        except _Closing as closing:
            await websocket.close(closing.code, closing.reason)
        except Exception:
            # The outermost handler of a connection: the error is logged, and the connection ends.
            logger.exception("a connection failed unexpectedly")
            await websocket.close(_FAILED, "internal error")
        finally:
            timer.cancel()
            hold.release()
            wire.charge_to(NO_CHARGE)
            received.release()

    def _expire(self) -> None:
        self.close(_TOO_SLOW, _REACHED[:120])

    async def _next(self) -> str | bytes:
        """The next message. Raises _Closing."""
        receiving = asyncio.ensure_future(websocket.receive())
        try:
            either: set[asyncio.Future[Any]] = {receiving, self._closing}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.done():
                raise self._closing.result()
            message: str | bytes = receiving.result()
            return message if self._wire.let_go() else b""
        finally:
            receiving.cancel()

    async def _answer(self, message: str | bytes) -> None:
        gateway = self._gateway
        settings = gateway.settings
        context = RequestContext(
            request_id=request_id_of({}),
            client=self._upgrade.client,
            limits=answer_limits(settings),
            headers=self._headers,
            authenticated=self._upgrade.principal,
            charge=gateway.in_flight.charge(),
        )
        context.log_fields["stream"] = context.streaming = True
        context.bytes_in = len(message)
        try:
            try:
                await self._respond(context, message)
            finally:
                await context.end()
        except (GatewayError, HttpRejection) as error:
            drop_tracebacks(error)
            if isinstance(error, InvalidRequest | ModelFailed):
                error.param = param_of(error)
            problem = error.problem if isinstance(error, HttpRejection) else problem_of(error)
            await self._refuse(context, problem)
        except (asyncio.CancelledError, _Closing):
            context.left = True
            raise
        except Exception as error:
            logger.exception("a response failed", extra={"request": context.request_id})
            drop_tracebacks(error)
            await self._refuse(context, INTERNAL_ERROR)
        finally:
            context.charge.release()
            access_log.write({"method": "WEBSOCKET", "path": "/v1/responses"}, context)

    async def _respond(self, context: RequestContext, message: str | bytes) -> None:
        asked = await read_object(_pieces(message), context, _read)
        context.limits = replace(context.limits, body_timeout=_LONGEST)
        begun, response = await self._begins.begin(context, asked, self._local)
        frames = self._begins.frames(response)
        feed = begun.feed(frames, context, self._gateway.settings)
        context.status = 200
        try:
            while (written := await feed.take()) != b"":
                if written is not None:
                    await self._send(context, written)
        except GatewayError as error:
            problem = problem_of(error)
            drop_tracebacks(error)
            context.reported(problem)
            self._local = {}
            if not context.bytes_out:
                raise
            await self._send(context, feed.failure(problem))
            return
        if len(dumps(response.body.get("layers"))) > _MOST_LAYERS:
            self._local = {}
        else:
            self._local = {response.id: replace(response, input=())}

    async def _refuse(self, context: RequestContext, problem: Problem) -> None:
        context.reported(problem)
        context.status = problem.status
        body = {"type": "error", "status": problem.status, **problem.envelope}
        await self._write(context, dumps(body))

    async def _send(self, context: RequestContext, frames: bytes) -> None:
        """Send the data of each frame as a message."""
        for frame in frames.split(b"\n\n"):
            _, found, data = frame.partition(_DATA)
            if found and frame != _DONE:
                await self._write(context, data)

    async def _write(self, context: RequestContext, data: bytes) -> None:
        """Raises _Closing where the client does not read."""
        context.bytes_out += len(data)
        try:
            async with asyncio.timeout(context.limits.write_timeout):
                await websocket.send(data.decode("utf-8", "replace"))
        except TimeoutError:
            context.stalled = True
            self._wire.cut()
            raise _Closing(_TOO_SLOW, "slow consumer") from None


async def _pieces(message: str | bytes) -> AsyncIterator[bytes]:
    yield message if isinstance(message, bytes) else message.encode("utf-8", "surrogatepass")


def _read(body: dict[str, Any]) -> ResponsesRequest:
    """The request in a message. Raises InvalidRequest."""
    kind = body.pop("type", None)
    if kind != _CREATE:
        raise InvalidRequest(f"`type` must be {_CREATE!r}.", param="type")
    body["stream"] = True
    if body.pop("generate", None) is False:
        raise Unsupported("`generate`: false is not supported. Leave it out.", param="generate")
    return read_request(body)
