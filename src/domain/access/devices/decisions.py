"""What somebody decides about devices, who gives nothing that they do not hold themselves."""

from __future__ import annotations

from dataclasses import replace

from ...errors import InvalidRequest
from ..authentication import Principal, Scope, authorize, covers
from .entry import mint
from .pairing import Change, Fresh, approved, with_token, without
from .records import (
    DeviceEvent,
    DeviceRemoved,
    DeviceState,
    DeviceToken,
    MintedToken,
    PairedDevice,
    PairingResolved,
    PendingPairing,
    TokenRevoked,
    TokenRotated,
)


def approve(
    state: DeviceState,
    fresh: Fresh,
    principal: Principal,
    request_id: str,
    agents: frozenset[str] | None = None,
) -> Change[PairedDevice]:
    """The device may have what it asks for, with these agents alone; None: with the agents that it
    had, a new device with all. Raises Forbidden, InvalidRequest, GatewayBusy."""
    authorize(principal, Scope.PAIRING)
    pairing = _asked(state, request_id)
    _must_hold(principal, pairing.scopes)
    return approved(state, pairing, fresh.at, agents)


def reject(
    state: DeviceState, fresh: Fresh, principal: Principal, request_id: str
) -> Change[PendingPairing]:
    """The device may not. Raises Forbidden, InvalidRequest."""
    authorize(principal, Scope.PAIRING)
    pairing = _asked(state, request_id)
    after = replace(state, pending=without(state.pending, pairing.device_id))
    resolved = PairingResolved(request_id, pairing.device_id, "rejected", fresh.at)
    return Change(after, pairing, (resolved,))


def remove(
    state: DeviceState, fresh: Fresh, principal: Principal, device_id: str
) -> Change[PairedDevice]:
    """The device is forgotten, and so is what it asks for. Raises Forbidden, InvalidRequest."""
    authorize(principal, Scope.PAIRING)
    device = _paired(state, device_id)
    for token in device.tokens.values():
        _must_reach(principal, device_id, token)
    after = DeviceState(without(state.paired, device_id), without(state.pending, device_id))
    events: tuple[DeviceEvent, ...] = (DeviceRemoved(device_id, tuple(device.tokens)),)
    asked = state.pending.get(device_id)
    if asked is not None:
        events += (PairingResolved(asked.request_id, device_id, "rejected", fresh.at),)
    return Change(after, device, events)


def rotate(
    state: DeviceState,
    fresh: Fresh,
    principal: Principal,
    device_id: str,
    role: str,
    scopes: frozenset[Scope] | None,
) -> Change[MintedToken]:
    """A new token in the place of the old one. Raises Forbidden, InvalidRequest."""
    authorize(principal, Scope.PAIRING)
    device = _paired(state, device_id)
    had = _token(device, role)
    if had.revoked_at is not None:
        raise InvalidRequest("the token is revoked; the device has to be approved again")
    _must_reach(principal, device_id, had)
    wanted = had.scopes if scopes is None else scopes
    _must_hold(principal, wanted)
    for scope in sorted(wanted):
        if not covers(had.scopes, scope):
            raise InvalidRequest(f"the device was not approved for {scope}", param="scopes")
    made = replace(had, scopes=wanted, rotated_at=fresh.at, revision=had.revision + 1)
    after, minted = mint(state, device, made, fresh)
    return Change(after, minted, (TokenRotated(device_id, had.role),))


def revoke(
    state: DeviceState, fresh: Fresh, principal: Principal, device_id: str, role: str
) -> Change[DeviceToken]:
    """The token is worth nothing any more. Raises Forbidden, InvalidRequest."""
    authorize(principal, Scope.PAIRING)
    device = _paired(state, device_id)
    had = _token(device, role)
    if had.revoked_at is not None:
        return Change(state, had)
    _must_reach(principal, device_id, had)
    revision = had.revision + 1
    revoked = replace(had, digest="", due=False, revoked_at=fresh.at, revision=revision)
    after = with_token(state, device, revoked)
    return Change(after, revoked, (TokenRevoked(device_id, had.role),))


def _asked(state: DeviceState, request_id: str) -> PendingPairing:
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


def _must_hold(principal: Principal, scopes: frozenset[Scope]) -> None:
    for scope in sorted(scopes):
        authorize(principal, scope)


def _must_reach(principal: Principal, device_id: str, token: DeviceToken) -> None:
    """Nobody takes from another device what they do not hold themselves: who has operator.pairing
    alone could lock out an administrator. Raises Forbidden."""
    if token.revoked_at is None and principal.id != f"device:{device_id}":
        _must_hold(principal, token.scopes)
