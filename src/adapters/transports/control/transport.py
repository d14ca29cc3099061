"""The control plane: WebSocket upgrades on any path, and the life of a connection."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from quart import Response, websocket

from ....domain.access import ClientAddress, owner_of
from ....domain.bounded_logs import KIND
from ....domain.byte_budget import NO_CHARGE
from ....domain.errors import GatewayError
from ....domain.settings import AuthMode
from ..http.json_text import dumps
from ..http.requests import Headers, client_of, credential_of, headers_in
from .broadcast import MAX_CONNECTIONS, Hub
from .connection import (
    BadFrame,
    Connection,
    HalfOpen,
    HalfOpenConnections,
    Handlers,
    Requests,
    error_frame,
    event_frame,
    read_frame,
    response_frame,
    serve,
)
from .dependencies import Dependencies
from .handshake import MAX_PAYLOAD, Admitted, Handshake, Hello, Peer, check_upgrade
from .protocol import (
    UNAVAILABLE,
    Challenge,
    ConnectRejection,
    RequestFrame,
    UnknownProperties,
    Wire,
    wire_of,
)

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
CONNECT_SECONDS = 3.0
"""The part of it in which `connect` has to arrive, unless the upgrade was authenticated."""
MAX_PREAUTH_BYTES = 65_536
_PASSING = ("cli", "probe")
"""Modes of clients that send one request and disconnect."""
_CLOSE_SECONDS = 2.0
"""Seconds in which a client may receive the close frame."""
_REPLACED_SECONDS = 1.0
"""How long a connection that is replaced stays as it is: closed at once, it would be opened again
at once, and the Gateway would do nothing else."""
_REPLACED = "replaced by a newer connection"
AUTH_CHANGED = 4001
"""The code to close with when a grant has ended."""
_FULL = "maximum connections reached"
_TRY_AGAIN_LATER = 1013


class Upgrades:
    """Answers upgrades: authenticates a client and serves its connection, or refuses it."""

    def __init__(
        self,
        dependencies: Dependencies,
        hub: Hub,
        health: Callable[[], Awaitable[Mapping[str, Any]]],
        handlers: Callable[[], Handlers],
    ) -> None:
        self._gateway = dependencies.gateway
        self._clock = dependencies.clock
        self._new_id = dependencies.new_id
        self._hub = hub
        self._handlers = handlers
        self._handshake = Handshake(dependencies.gateway, dependencies.devices)
        self._hello = Hello(self._gateway, hub, dependencies.facts, health, self._clock)
        self._half_open = HalfOpenConnections()
        self._unknown = UnknownProperties()

    async def enter(self, path: str = "") -> Response | None:
        """One connection, from the upgrade to its end; a Response where it is not upgraded."""
        scope: dict[str, Any] = websocket.scope  # type: ignore[assignment]
        settings = self._gateway.settings
        headers = headers_in(scope["headers"])
        peer = _peer(headers, client_of(scope, headers, settings.trusted_proxies))
        address = peer.address.address
        try:
            check_upgrade(peer, settings)
        except ConnectRejection as refusal:
            logger.warning("a connection was refused", extra=_log_fields(address, refusal.reason))
            return _response(403, refusal.error.message)
        if len(self._hub) >= MAX_CONNECTIONS:
            logger.warning("a connection was refused", extra=_log_fields(address, _FULL))
            return _response(503, _FULL)
        wire = wire_of(scope)
        wire.limit, wire.limit_reason = MAX_PREAUTH_BYTES, "preauth payload too large"
        if await self._is_authenticated(headers, peer):
            entered = await self._shake_hands(peer, wire, None)
        else:
            with self._half_open.joined(owner_of(address)) as half_open:
                entered = await self._shake_hands(peer, wire, half_open)
        if entered is not None:
            wire.limit, wire.limit_reason = MAX_PAYLOAD, "payload too large"
            wire.authenticated = True
            await self._serve(*entered, peer, wire)
        return None

    async def _is_authenticated(self, headers: Headers, peer: Peer) -> bool:
        """Whether the upgrade's headers have the Gateway's secret, which exempts the connection
        from the limits of half-open ones. `connect` is authenticated all the same. A wrong secret
        counts towards the lockout, and is one attempt with the same secret in `connect`."""
        gateway, credential = self._gateway, credential_of(headers, peer.address)
        if credential.secret is None or gateway.settings.auth.mode is AuthMode.NONE:
            return False
        try:
            if await gateway.access.recognise(credential) is not None:
                return True
        except GatewayError:
            return False  # Locked out: `connect` is refused with the reason.
        await gateway.access.count_failure(peer.address, credential.secret)
        return False

    async def _shake_hands(
        self, peer: Peer, wire: Wire, half_open: HalfOpen | None
    ) -> tuple[str, Admitted] | None:
        """The id of the `connect` request, and the admitted client; None after a rejection."""
        try:
            frame = await self._first_frame(peer, half_open)
            return frame.id, await self._admit(frame, peer)
        except TimeoutError:
            refusal = ConnectRejection("handshake timeout")
            if half_open is not None and half_open.is_replaced:
                refusal = ConnectRejection(_REPLACED, close_code=_TRY_AGAIN_LATER)
                await asyncio.sleep(_REPLACED_SECONDS)
        except ConnectRejection as raised:
            refusal = raised
        if half_open is not None:
            self._half_open.release(half_open)
        extra = _log_fields(peer.address.address, refusal.reason)
        logger.info("a connection was refused", extra=extra)
        await _part(wire, refusal.close_code, refusal.reason)
        return None

    async def _first_frame(self, peer: Peer, half_open: HalfOpen | None) -> RequestFrame:
        """The client's answer to the challenge. Raises ConnectRejection, TimeoutError."""
        if half_open is None:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                return await self._challenge(peer)
        async with asyncio.timeout(min(CONNECT_SECONDS, HANDSHAKE_SECONDS)) as deadline:
            with half_open.limited_by(deadline):
                frame = await self._challenge(peer)
        # From here on it costs one decision, and is not replaced.
        self._half_open.release(half_open)
        return frame

    async def _challenge(self, peer: Peer) -> RequestFrame:
        challenge = Challenge(nonce=peer.nonce, ts=int(self._clock() * 1_000))
        payload = dumps(challenge.model_dump(by_alias=True))
        await websocket.accept()
        await websocket.send(event_frame("connect.challenge", payload).decode())
        try:
            return read_frame(await websocket.receive())
        except BadFrame:
            raise ConnectRejection("invalid request frame") from None

    async def _admit(self, frame: RequestFrame, peer: Peer) -> Admitted:
        """The client that is let in. Raises ConnectRejection after sending its reason."""
        try:
            self._refuse_when(self._hub.stopping, "gateway shutting down", 1012)
            admitted = await self._handshake.admit(frame, peer)
            # Checked again: others may have been let in since the upgrade.
            self._refuse_when(len(self._hub) >= MAX_CONNECTIONS, _FULL, _TRY_AGAIN_LATER)
        except ConnectRejection as refusal:
            await websocket.send(error_frame(frame.id, refusal.error).decode())
            raise
        return admitted

    def _refuse_when(self, unavailable: bool, reason: str, close_code: int) -> None:
        if unavailable:
            raise ConnectRejection(reason, code=UNAVAILABLE, close_code=close_code, retryable=True)

    async def _serve(self, request_id: str, admitted: Admitted, peer: Peer, wire: Wire) -> None:
        connection = Connection(
            id=self._new_id(),
            principal=admitted.principal,
            role=admitted.role,
            protocol=admitted.protocol,
            client=admitted.params.client,
            caps=frozenset(admitted.params.caps),
            address=peer.address.address,
            connected_at=self._clock(),
            device_id=admitted.device_id,
        )
        hello = await self._hello.to(connection, admitted)
        connection.outbox.put(response_frame(request_id, hello))
        extra = {"connection": connection.id, "client": connection.address}
        # Short connections of commands are logged at a lower level.
        level = logging.DEBUG if connection.client.mode in _PASSING else logging.INFO
        logger.log(level, "connected", extra={**extra, "program": connection.client.id})
        ended: dict[str, object] = {"reason": "the client left"}
        received = self._gateway.in_flight.charge()
        try:
            access, end = self._gateway.access, partial(connection.close, AUTH_CHANGED)
            requests = Requests(
                connection, self._handlers(), self._gateway.in_flight, self._unknown
            )
            async with self._hub.registered(connection):
                with access.hold(connection.principal, end):
                    wire.charge_to(received)
                    code, reason = await serve(connection, requests, access, wire.let_go)
            ended = {"code": code, "reason": reason}
            await _part(wire, code, reason)
        except Exception:
            # The outermost handler of a connection: the error is logged, and the connection ends.
            ended = {"code": 1011, "reason": "internal error"}
            logger.exception("a connection failed unexpectedly", extra=extra)
            await _part(wire, 1011, "internal error")
        finally:
            wire.charge_to(NO_CHARGE)
            received.release()
            logger.log(level, "disconnected", extra={**extra, **ended})


async def _part(wire: Wire, code: int, reason: str) -> None:
    """Close, and wait until the client has received the close frame; else abort the connection."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await websocket.close(code, reason)
            await wire.ended()
    wire.cut()


def _log_fields(address: str, reason: str) -> dict[str, object]:
    return {"client": address, "reason": reason, KIND: "handshakes refused"}


def _peer(headers: Headers, address: ClientAddress) -> Peer:
    origin = headers.get(b"origin")
    return Peer(
        address=address,
        host=headers.get(b"host", b"").decode("latin-1"),
        origin=None if origin is None else origin.decode("latin-1"),
        nonce=secrets.token_hex(16),
        headers=headers,
    )


def _response(status: int, message: str) -> Response:
    return Response(message + "\n", status, content_type="text/plain; charset=utf-8")
