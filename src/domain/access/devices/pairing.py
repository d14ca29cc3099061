"""What becomes of the devices that are kept when one of them asks, or somebody decides.

Functions from one state to the next. Who may decide is not their business: see `devices`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from ...errors import GatewayBusy
from ..authentication import Scope, covers
from .records import (
    DeviceEvent,
    DeviceInfo,
    DeviceState,
    DeviceToken,
    PairedDevice,
    PairingReason,
    PairingRequested,
    PairingResolved,
    PendingPairing,
    Role,
)

PENDING_SECONDS = 300.0
MAX_PENDING = 64
MAX_PAIRED = 1_000
_LONGEST = 256

T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Change(Generic[T_co]):
    """The state that follows, what the caller is told, and what everybody is told."""

    state: DeviceState
    result: T_co
    events: tuple[DeviceEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Fresh:
    """What a change may need that is new: the time, an identifier and a token."""

    at: float
    id: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A device that has proven that it is itself, and what it asks for."""

    device_id: str
    public_key: str
    role: Role
    scopes: frozenset[Scope]
    info: DeviceInfo = field(default_factory=DeviceInfo)


def missing(device: PairedDevice | None, visitor: Visitor) -> PairingReason | None:
    """What the device was not approved for; None when it may have all that it asks for."""
    if device is None or device.public_key != visitor.public_key:
        return PairingReason.NOT_PAIRED
    token = device.tokens.get(visitor.role)
    if token is None:
        return PairingReason.ROLE
    if token.revoked_at is not None:
        return PairingReason.NOT_PAIRED
    if not all(covers(token.scopes, scope) for scope in visitor.scopes):
        return PairingReason.SCOPE
    return None


def is_revoked(device: PairedDevice | None, role: Role) -> bool:
    """Whether somebody took from the device what it had in that role."""
    token = None if device is None else device.tokens.get(role)
    return token is not None and token.revoked_at is not None


def requested(
    state: DeviceState, visitor: Visitor, reason: PairingReason, *, request_id: str, at: float
) -> Change[PendingPairing]:
    """The device waits for approval: one request per device, and always its latest.

    The same request again stays what it is. Another one takes its place under another id, so that
    nobody approves what they have not seen. Raises GatewayBusy.
    """
    known = state.pending.get(visitor.device_id)
    pairing = PendingPairing(
        request_id=request_id,
        device_id=visitor.device_id,
        public_key=visitor.public_key,
        role=visitor.role,
        scopes=visitor.scopes,
        info=bounded(visitor.info),
        reason=reason,
        is_repair=visitor.device_id in state.paired,
        created_at=at,
    )
    if known is None:
        if len(state.pending) >= MAX_PENDING:
            raise GatewayBusy("Too many devices wait to be approved.", retry_after=PENDING_SECONDS)
        return Change(_pend(state, pairing), pairing, (PairingRequested(pairing),))
    same = replace(pairing, request_id=known.request_id, created_at=known.created_at)
    if same == known:
        return Change(state, known)
    if replace(same, info=known.info) == known:
        return Change(_pend(state, same), same)
    resolved = PairingResolved(known.request_id, known.device_id, "superseded", at)
    return Change(_pend(state, pairing), pairing, (resolved, PairingRequested(pairing)))


def approved(
    state: DeviceState,
    pairing: PendingPairing,
    at: float,
    agents: frozenset[str] | None = None,
) -> Change[PairedDevice]:
    """The device has what it asked for beside what it had, and a token is due.

    Nothing is left of what was revoked, or was another key's. Raises GatewayBusy.
    """
    known = state.paired.get(pairing.device_id)
    if known is None and len(state.paired) >= MAX_PAIRED:
        raise GatewayBusy(f"{MAX_PAIRED} devices are paired; remove one that is not used.")
    same = known if known is not None and known.public_key == pairing.public_key else None
    tokens = {} if same is None else dict(same.tokens)
    tokens[pairing.role] = _widened(tokens.get(pairing.role), pairing, at)
    device = PairedDevice(
        id=pairing.device_id,
        public_key=pairing.public_key,
        info=pairing.info,
        tokens=tokens,
        created_at=at if same is None else same.created_at,
        approved_at=at,
        agents=same.agents if agents is None and same is not None else agents,
    )
    paired = {**state.paired, device.id: device}
    resolved = PairingResolved(pairing.request_id, device.id, "approved", at)
    after = DeviceState(paired, without(state.pending, device.id))
    return Change(after, device, (resolved,))


def expired(state: DeviceState, at: float) -> Change[None]:
    """Requests that nobody has decided on in time are gone."""
    late = [p for p in state.pending.values() if p.created_at + PENDING_SECONDS <= at]
    if not late:
        return Change(state, None)
    pending = without(state.pending, *(p.device_id for p in late))
    events = (PairingResolved(p.request_id, p.device_id, "expired", at) for p in late)
    return Change(replace(state, pending=pending), None, tuple(events))


def with_token(state: DeviceState, device: PairedDevice, token: DeviceToken) -> DeviceState:
    """The state with that token in its role."""
    changed = replace(device, tokens={**device.tokens, token.role: token})
    return replace(state, paired={**state.paired, device.id: changed})


def bounded(info: DeviceInfo) -> DeviceInfo:
    """The same, cut to lengths that a list for people can show."""
    return DeviceInfo(
        display_name=info.display_name[:_LONGEST],
        platform=info.platform[:_LONGEST],
        device_family=info.device_family[:_LONGEST],
        client_id=info.client_id[:_LONGEST],
        client_mode=info.client_mode[:_LONGEST],
        address=info.address[:_LONGEST],
    )


def without(kept: Mapping[K, V], *keys: K) -> dict[K, V]:
    """All but the entries of those keys."""
    return {key: value for key, value in kept.items() if key not in keys}


def _widened(had: DeviceToken | None, pairing: PendingPairing, at: float) -> DeviceToken:
    if had is None:
        return DeviceToken(pairing.role, pairing.scopes, at)
    if had.revoked_at is not None:
        return DeviceToken(pairing.role, pairing.scopes, at, revision=had.revision)
    return replace(had, scopes=had.scopes | pairing.scopes, due=True)


def _pend(state: DeviceState, pairing: PendingPairing) -> DeviceState:
    return replace(state, pending={**state.pending, pairing.device_id: pairing})
