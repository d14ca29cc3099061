"""The devices that may connect: identity, approval and tokens.

Nobody grants access that they do not hold: a device is approved by a principal who holds all that
it requests, or by the shared secret on this machine.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from ..access import Credential, Grant, Principal, Scope, authorize, covers
from ..access.devices import (
    Change,
    Claim,
    DeviceEvent,
    DeviceRemoved,
    DeviceState,
    DeviceToken,
    Entry,
    Fresh,
    MintedToken,
    PairedDevice,
    PairingRequested,
    PairingRequired,
    PairingResolved,
    PendingPairing,
    Proof,
    Role,
    TokenRevoked,
    TokenRotated,
    VerifySignature,
    Visitor,
    approved,
    check_proof,
    device_of,
    entered,
    events_between,
    expired,
    grant_of,
    holder,
    mint,
    suffices,
    with_token,
    without,
)
from ..concurrency import shielded
from ..errors import InvalidRequest
from ..ports import Clock, DeviceBook, NodeBus
from .shared_copy import SharedCopy

logger = logging.getLogger(__name__)

EXPIRY_SECONDS = 15.0
"""Seconds between two calls of `expire`, so that requests expire also while no device connects."""

_LOG_LINES: Mapping[type[DeviceEvent], str] = MappingProxyType(
    {
        PairingRequested: "a device asks to be let in",
        PairingResolved: "a device's request was decided on",
        TokenRotated: "a device got a new token",
        TokenRevoked: "a device's token was revoked",
        DeviceRemoved: "a device was removed",
    }
)

OnChange = Callable[[DeviceEvent], None]
"""Called for every change once it is stored, at whichever node. Must not block."""

T = TypeVar("T")


class Devices:
    """Manages the DeviceBook, and is an Authenticator for device tokens. Call `open` first.

    `bus`: of the nodes that share the book. The methods with a `principal` raise Forbidden if it
    lacks `operator.pairing` or access that the method grants or takes, InvalidRequest for unknown
    ids, and StoreFailed.
    """

    def __init__(
        self,
        *,
        book: DeviceBook,
        clock: Clock,
        verify: VerifySignature,
        bus: NodeBus | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        new_token: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        self._book = book
        self._clock = clock
        self._new_id = new_id
        self._new_token = new_token
        self._verify = verify
        self._stored: DeviceState | None = None
        self._changing = asyncio.Lock()
        self._listeners: list[OnChange] = []
        self._copy = SharedCopy(bus, "devices", self.renew)

    async def open(self) -> None:
        """Read the book. Raises StoreFailed."""
        self._copy.open()
        async with self._changing:
            self._stored = await self._book.load()

    async def close(self) -> None:
        """Renew the copy of the book no more."""
        await self._copy.close()

    async def renew(self) -> None:
        """Adopt what other nodes have saved. Raises StoreFailed."""
        async with self._changing:
            await self._adopt()

    async def expire(self) -> None:
        """Remove the requests that were not decided in time. Raises StoreFailed."""
        await self._change(lambda state, _: Change(state, None))

    def on_change(self, listener: OnChange) -> Callable[[], None]:
        """Call `listener` for every change, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def check_proof(self, proof: Proof, claim: Claim, nonce: str) -> str:
        """The device's public key in base64url. Raises ProofRefused."""
        return check_proof(proof, claim, nonce=nonce, now=self._clock(), verify=self._verify)

    def suffices(self, visitor: Visitor, token: str) -> bool:
        """Whether the token covers all that the device requests."""
        return suffices(self._state.paired.get(visitor.device_id), visitor, token)

    async def authenticate(self, credential: Credential) -> Grant | None:
        """The grant of a device in the role of the token that it sent. The device has proven its
        identity; `enter` then admits it with the role and the scopes that it requests."""
        claimed = credential.device
        if claimed is None or claimed.token is None:
            return None
        device = self._state.paired.get(claimed.device_id)
        token = holder(device, claimed.token)
        if token is None and self._copy.shared:
            # Another node may have paired the device, or given it the token, a moment ago.
            await self._copy.renewed()
            device = self._state.paired.get(claimed.device_id)
            token = holder(device, claimed.token)
        return None if device is None or token is None else grant_of(device, token)

    def grant(self, device_id: str, role: Role) -> Grant | None:
        """The present grant of a device in a role."""
        device = self._state.paired.get(device_id)
        token = None if device is None else device.tokens.get(role)
        if device is None or token is None or token.revoked_at is not None:
            return None
        return grant_of(device, token)

    def stands(self, grant: Grant) -> bool:
        """Whether the device is paired, and its token neither rotated nor revoked since."""
        _, device_id, role = grant.id.split(":")
        current = self.grant(device_id, Role(role))
        return current is not None and current.revision == grant.revision

    async def enter(self, visitor: Visitor, *, token: str | None, silent: bool = False) -> Entry:
        """Admit a device that has proven its identity.

        `token`: a device token, which never widens its access; None if the device sent the shared
        secret. `silent`: approve a new request at once, for a client on this machine with the
        shared secret; a revoked role is not approved. Raises PairingRequired, TokenRefused,
        GatewayBusy, StoreFailed.
        """

        def make(state: DeviceState, fresh: Fresh) -> Change[Entry | PendingPairing]:
            return entered(state, visitor, fresh, token=token, silent=silent)

        result = await self._change(make)
        if isinstance(result, PendingPairing):
            raise PairingRequired(result.request_id, result.reason)
        return result

    async def list(
        self, principal: Principal
    ) -> tuple[tuple[PendingPairing, ...], tuple[PairedDevice, ...]]:
        """The pending requests and the paired devices."""
        authorize(principal, Scope.PAIRING)
        await self.expire()
        return tuple(self._state.pending.values()), tuple(self._state.paired.values())

    async def approve(
        self, principal: Principal, request_id: str, agents: frozenset[str] | None = None
    ) -> PairedDevice:
        """Grant a request, restricted to `agents`; None: to those that the device had, and for a
        new device without restriction. Raises GatewayBusy too."""

        def make(state: DeviceState, fresh: Fresh) -> Change[PairedDevice]:
            authorize(principal, Scope.PAIRING)
            pairing = _request(state, request_id)
            _require_all(principal, pairing.scopes)
            return approved(state, pairing, fresh.at, agents)

        return await self._change(make)

    async def reject(self, principal: Principal, request_id: str) -> PendingPairing:
        """Remove a request."""

        def make(state: DeviceState, fresh: Fresh) -> Change[PendingPairing]:
            authorize(principal, Scope.PAIRING)
            pairing = _request(state, request_id)
            after = replace(state, pending=without(state.pending, pairing.device_id))
            resolved = PairingResolved(request_id, pairing.device_id, "rejected", fresh.at)
            return Change(after, pairing, (resolved,))

        return await self._change(make)

    async def remove(self, principal: Principal, device_id: str) -> PairedDevice:
        """Remove a device, its tokens and its request."""

        def make(state: DeviceState, fresh: Fresh) -> Change[PairedDevice]:
            authorize(principal, Scope.PAIRING)
            device = _paired(state, device_id)
            for token in device.tokens.values():
                _require_reach(principal, device_id, token)
            after = DeviceState(without(state.paired, device_id), without(state.pending, device_id))
            events: tuple[DeviceEvent, ...] = (DeviceRemoved(device_id, tuple(device.tokens)),)
            pending = state.pending.get(device_id)
            if pending is not None:
                events += (PairingResolved(pending.request_id, device_id, "rejected", fresh.at),)
            return Change(after, device, events)

        return await self._change(make)

    async def rotate(
        self,
        principal: Principal,
        device_id: str,
        role: str,
        scopes: frozenset[Scope] | None = None,
    ) -> MintedToken:
        """Replace a token. `scopes`: those of the new token, which the device must have been
        approved for and the principal must hold; None: the same as before."""

        def make(state: DeviceState, fresh: Fresh) -> Change[MintedToken]:
            authorize(principal, Scope.PAIRING)
            device = _paired(state, device_id)
            token = _token(device, role)
            if token.revoked_at is not None:
                raise InvalidRequest("the token is revoked; the device has to be approved again")
            _require_reach(principal, device_id, token)
            wanted = token.scopes if scopes is None else scopes
            _require_all(principal, wanted)
            for scope in sorted(wanted):
                if not covers(token.scopes, scope):
                    raise InvalidRequest(f"the device was not approved for {scope}", param="scopes")
            revision = token.revision + 1
            rotated = replace(token, scopes=wanted, rotated_at=fresh.at, revision=revision)
            after, minted = mint(state, device, rotated, fresh)
            return Change(after, minted, (TokenRotated(device_id, token.role),))

        return await self._change(make)

    async def revoke(self, principal: Principal, device_id: str, role: str) -> DeviceToken:
        """Revoke a device's access in a role until it is approved again."""

        def make(state: DeviceState, fresh: Fresh) -> Change[DeviceToken]:
            authorize(principal, Scope.PAIRING)
            device = _paired(state, device_id)
            token = _token(device, role)
            if token.revoked_at is not None:
                return Change(state, token)
            _require_reach(principal, device_id, token)
            revision = token.revision + 1
            revoked = replace(token, digest="", due=False, revoked_at=fresh.at, revision=revision)
            after = with_token(state, device, revoked)
            return Change(after, revoked, (TokenRevoked(device_id, token.role),))

        return await self._change(make)

    @property
    def _state(self) -> DeviceState:
        if self._stored is None:
            raise RuntimeError("the devices were not opened")
        return self._stored

    async def _change(self, make: Callable[[DeviceState, Fresh], Change[T]]) -> T:
        # Shielded: a caller that is cancelled must not leave the book ahead of `_stored`.
        return await shielded(self._make_and_save(make))

    async def _make_and_save(self, make: Callable[[DeviceState, Fresh], Change[T]]) -> T:
        async with self._changing:
            while True:
                # Of several processes each decides on what all of them have saved.
                await self._adopt()
                fresh = Fresh(self._clock(), self._new_id(), self._new_token())
                if await self._save(expired(self._state, fresh.at)):
                    change = make(self._state, fresh)
                    if await self._save(change):
                        return change.result

    async def _save(self, change: Change[T]) -> bool:
        """False where another process has saved meanwhile."""
        if change.state is not self._state:
            if not await self._book.save(change.state):
                return False
            self._stored = change.state
            self._copy.changed()
        self._report(change.events)
        return True

    async def _adopt(self) -> None:
        newer = await self._book.newer()
        if newer is not None:
            before, self._stored = self._state, newer
            self._report(events_between(before, newer, self._clock()))

    def _report(self, events: Iterable[DeviceEvent]) -> None:
        for event in events:
            logger.info(_LOG_LINES[type(event)], extra={"device": device_of(event)})
            for listener in tuple(self._listeners):
                listener(event)


def _request(state: DeviceState, request_id: str) -> PendingPairing:
    for pairing in state.pending.values():
        if pairing.request_id == request_id:
            return pairing
    raise InvalidRequest("unknown requestId", param="requestId")


def _paired(state: DeviceState, device_id: str) -> PairedDevice:
    if device_id not in state.paired:
        raise InvalidRequest("unknown deviceId", param="deviceId")
    return state.paired[device_id]


def _token(device: PairedDevice, role: str) -> DeviceToken:
    for token in device.tokens.values():
        if token.role == role:
            return token
    raise InvalidRequest("unknown deviceId/role", param="role")


def _require_all(principal: Principal, scopes: frozenset[Scope]) -> None:
    for scope in sorted(scopes):
        authorize(principal, scope)


def _require_reach(principal: Principal, device_id: str, token: DeviceToken) -> None:
    """Only a principal that holds a token's scopes may take it from another device: otherwise
    operator.pairing alone could lock out an administrator. Raises Forbidden."""
    if token.revoked_at is None and principal.id != f"device:{device_id}":
        _require_all(principal, token.scopes)
