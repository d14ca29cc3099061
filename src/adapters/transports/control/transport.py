"""The control plane: WebSocket upgrades on any path, and who is let in."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from quart import Blueprint, Response, websocket

from ....domain.addresses import ClientAddress
from ....domain.bounded_logs import KIND
from ....domain.gateway import Gateway
from ....domain.lockout import owner_of
from ....domain.ports import Clock, NewId
from ..http.json_text import dumps
from ..http.requests import Given, client_of, given_in
from .calls import Handlers
from .connection import Connection
from .dispatcher import BadFrame, read_frame
from .frames import Challenge
from .handshake import Admitted, Caller, Handshake
from .hello import MAX_PAYLOAD, Hello
from .hub import MAX_CONNECTIONS, Hub
from .origins import check_upgrade
from .outbox import error_frame, event_frame, response_frame
from .problems import UNAVAILABLE, Refusal
from .serving import serve
from .unknown_properties import UnknownProperties
from .wire import Wire, wire_of

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
MAX_UNAUTHENTICATED = 32
"""Connections of one address, or of one IPv6 network of 64 bits, that may be in their handshake."""
MAX_PREAUTH_BYTES = 65_536
_PASSING = ("cli", "probe")
"""Modes of clients that do one thing and leave."""
_LAST_WORDS = 2.0
"""Seconds that a client gets to take the reason for its end."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the control plane is made of."""

    gateway: Gateway
    hub: Hub
    handshake: Handshake
    hello: Hello
    handlers: Callable[[], Handlers]
    clock: Clock
    new_id: NewId
    unknown: UnknownProperties = field(default_factory=UnknownProperties)


def transport(parts: Parts) -> Blueprint:
    """The WebSocket routes."""
    door = _Door(parts)
    blueprint = Blueprint("control", __name__)
    blueprint.record(lambda state: _route(state.app, door))
    return blueprint


def _route(app: Any, door: _Door) -> None:
    """Upgrades on every path. The rules name no method: with GET, which Quart would put in,
    plain HTTP would be told that GET is allowed where there is nothing at all."""
    for number, rule in enumerate(("/", "/<path:path>")):
        endpoint = f"control.enter-{number}"
        app.url_map.add(app.url_rule_class(rule, endpoint=endpoint, websocket=True))
        app.view_functions[endpoint] = door.enter


class _Door:
    """Lets clients in, or tells them why not."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._entering: Counter[str] = Counter()

    async def enter(self, path: str = "") -> Response | None:
        """One connection, from the upgrade to its end; a Response where it is not upgraded."""
        scope: dict[str, Any] = websocket.scope  # type: ignore[assignment]
        settings = self._parts.gateway.settings
        given = given_in(scope["headers"])
        caller = _caller(scope, given, client_of(scope, given, settings.trusted_proxies))
        address = caller.address.address
        try:
            check_upgrade(caller, settings)
        except Refusal as refusal:
            logger.warning("a connection was refused", extra=_told(address, refusal.reason))
            return _response(403, refusal.error.message)
        owner = owner_of(address)
        if self._entering[owner] >= MAX_UNAUTHENTICATED:
            reason = "Too many unauthenticated sockets"
            logger.warning("a connection was refused", extra=_told(address, reason))
            return _response(503, reason)
        if len(self._parts.hub) + self._entering.total() >= MAX_CONNECTIONS:
            reason = "maximum connections reached"
            logger.warning("a connection was refused", extra=_told(address, reason))
            return _response(503, reason)
        wire = wire_of(scope)
        wire.limit, wire.limit_reason = MAX_PREAUTH_BYTES, "preauth payload too large"
        with self._counted(owner):
            await websocket.accept()
            try:
                request_id, admitted = await self._shake_hands(caller)
            except Refusal as refusal:
                logger.info("a connection was refused", extra=_told(address, refusal.reason))
                await _part(wire, refusal.close_code, refusal.reason)
                return None
        wire.limit, wire.limit_reason = MAX_PAYLOAD, "payload too large"
        await self._serve(request_id, admitted, caller, wire)
        return None

    async def _shake_hands(self, caller: Caller) -> tuple[str, Admitted]:
        """The id of the `connect` request, and who that let in. Raises Refusal."""
        challenge = Challenge(nonce=caller.nonce, ts=int(self._parts.clock() * 1_000))
        payload = dumps(challenge.model_dump(by_alias=True))
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await websocket.send(event_frame("connect.challenge", payload).decode())
                frame = read_frame(await websocket.receive())
        except TimeoutError:
            raise Refusal("handshake timeout") from None
        except BadFrame:
            raise Refusal("invalid request frame") from None
        try:
            self._refuse_when_stopping()
            return frame.id, await self._parts.handshake.admit(frame, caller)
        except Refusal as refusal:
            error = refusal.error.model_dump(by_alias=True, exclude_none=True)
            await websocket.send(error_frame(frame.id, error).decode())
            raise

    def _refuse_when_stopping(self) -> None:
        if self._parts.hub.stopping:
            raise Refusal(
                "gateway shutting down", code=UNAVAILABLE, close_code=1012, retryable=True
            )

    async def _serve(self, request_id: str, admitted: Admitted, caller: Caller, wire: Wire) -> None:
        connection = self._connection(admitted, caller)
        hello = await self._parts.hello.to(connection, admitted)
        connection.outbox.put(response_frame(request_id, hello))
        extra = {"connection": connection.id, "client": connection.address}
        # Commands come and go; who stays is worth a line.
        level = logging.DEBUG if connection.client.mode in _PASSING else logging.INFO
        logger.log(level, "connected", extra={**extra, "program": connection.client.id})
        ended: dict[str, object] = {"reason": "the client left"}
        try:
            async with self._parts.hub.joined(connection):
                # From here on the hub ends it when its secret or device no longer counts.
                if not self._parts.handshake.stands(admitted):
                    connection.close(4001, "gateway auth changed")
                code, reason = await serve(connection, self._parts)
            ended = {"code": code, "reason": reason}
            await _part(wire, code, reason)
        except Exception:
            # The outermost edge of a connection: it ends, and the log gets the error.
            ended = {"code": 1011, "reason": "internal error"}
            logger.exception("a connection failed unexpectedly", extra=extra)
            await _part(wire, 1011, "internal error")
        finally:
            logger.log(level, "disconnected", extra={**extra, **ended})

    def _connection(self, admitted: Admitted, caller: Caller) -> Connection:
        params = admitted.params
        return Connection(
            id=self._parts.new_id(),
            principal=admitted.principal,
            role=admitted.role,
            protocol=admitted.protocol,
            client=params.client,
            caps=frozenset(params.caps),
            address=caller.address.address,
            connected_at=self._parts.clock(),
            device_id=admitted.device_id,
            auth=admitted.auth,
        )

    @contextmanager
    def _counted(self, owner: str) -> Iterator[None]:
        self._entering[owner] += 1
        try:
            yield
        finally:
            self._entering[owner] -= 1
            if not self._entering[owner]:
                del self._entering[owner]


async def _part(wire: Wire, code: int, reason: str) -> None:
    """Close, and stay until the client has taken the reason; one that takes nothing is cut off."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS):
            await websocket.close(code, reason)
            await wire.ended()
    wire.cut()


def _told(address: str, reason: str) -> dict[str, object]:
    return {"client": address, "reason": reason, KIND: "handshakes refused"}


def _caller(scope: dict[str, Any], given: Given, address: ClientAddress) -> Caller:
    origin = given.get(b"origin")
    return Caller(
        address=address,
        host=given.get(b"host", b"").decode("latin-1"),
        origin=None if origin is None else origin.decode("latin-1"),
        nonce=secrets.token_hex(16),
        secure=scope.get("scheme") == "wss",
    )


def _response(status: int, message: str) -> Response:
    return Response(message + "\n", status, content_type="text/plain; charset=utf-8")
