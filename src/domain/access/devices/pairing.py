"""How a DeviceState changes when a device connects, is approved or expires.

Functions from one state to the next. `services.devices` authorizes decisions and stores the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Generic, TypeVar

from ...errors import Forbidden, GatewayBusy, Unauthenticated
from ...scopes import Scope, covers
from .records import (
    DeviceEvent,
    DeviceInfo,
    DeviceState,
    DeviceToken,
    MintedToken,
    PairedDevice,
    PairingReason,
    PairingRequested,
    PairingResolved,
    PendingPairing,
    Role,
    token_digest,
)

PENDING_SECONDS = 300.0
MAX_PENDING = 64
MAX_PAIRED = 1_000
_LONGEST = 256
USE_SECONDS = 3_600.0
"""Precision of `last_used_at`: a connection within that time is not written."""

T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Change(Generic[T_co]):
    """The next state, the result for the caller, and the events for subscribers."""

    state: DeviceState
    result: T_co
    events: tuple[DeviceEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Fresh:
    """The time, an identifier and a token for a change that needs them."""

    at: float
    id: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A device that has proven its identity, and the access that it requests."""

    device_id: str
    public_key: str
    role: Role
    scopes: frozenset[Scope]
    info: DeviceInfo = field(default_factory=DeviceInfo)


class PairingRequired(Forbidden):
    """The device has to be approved first; `request_id` names its request."""

    code = "pairing_required"

    def __init__(self, request_id: str, reason: PairingReason) -> None:
        super().__init__("The device has to be approved first.")
        self.request_id = request_id
        self.reason = reason


class TokenRefused(Unauthenticated):
    """The token is not one of the device's, or is no longer in force."""

    code = "device_token_mismatch"


@dataclass(frozen=True, slots=True)
class Entry:
    """A device is admitted with these scopes; `minted`: its new token, if one was due."""

    scopes: frozenset[Scope]
    minted: MintedToken | None = None


def holder(device: PairedDevice | None, token: str) -> DeviceToken | None:
    """The device's record of this token, in any role; None if the token is not its own."""
    if device is None:
        return None
    held = [one for one in device.tokens.values() if one.is_proven_by(token)]
    return held[0] if held else None


def suffices(device: PairedDevice | None, visitor: Visitor, token: str) -> bool:
    """Whether the token covers all that the device requests."""
    held = holder(device, token)
    return held is not None and held.role is visitor.role and missing(device, visitor) is None


def entered(
    state: DeviceState, visitor: Visitor, fresh: Fresh, *, token: str | None, silent: bool
) -> Change[Entry] | Change[PendingPairing]:
    """Admit the device, or enter its request. `token` is None if it sent the shared secret.

    `silent`: approve a new request at once, unless the role was revoked. Raises TokenRefused,
    GatewayBusy.
    """
    device = state.paired.get(visitor.device_id)
    if token is not None and holder(device, token) is None:
        raise TokenRefused("This token is not the device's.")
    reason = missing(device, visitor)
    if reason is None:
        return _let_in(state, visitor, fresh)
    asked = requested(state, visitor, reason, request_id=fresh.id, at=fresh.at)
    if token is not None or not silent or is_revoked(device, visitor.role):
        return asked
    granted = approved(asked.state, asked.result, fresh.at)
    # The request was approved at once, so its own event is omitted.
    return _let_in(granted.state, visitor, fresh, granted.events)


def mint(
    state: DeviceState, device: PairedDevice, held: DeviceToken, fresh: Fresh
) -> tuple[DeviceState, MintedToken]:
    made = replace(held, digest=token_digest(fresh.token), due=False)
    minted = MintedToken(device.id, held.role, held.scopes, fresh.token, fresh.at)
    return with_token(state, device, made), minted


def _let_in(
    state: DeviceState, visitor: Visitor, fresh: Fresh, events: tuple[DeviceEvent, ...] = ()
) -> Change[Entry]:
    device = state.paired[visitor.device_id]
    held = device.tokens[visitor.role]
    scopes = frozenset(scope for scope in visitor.scopes if covers(held.scopes, scope))
    used = replace(held, last_used_at=fresh.at)
    if held.due:
        if held.digest:
            used = replace(used, rotated_at=fresh.at)
        state, minted = mint(state, device, used, fresh)
        return Change(state, Entry(scopes, minted), events)
    if held.last_used_at is None or fresh.at - held.last_used_at >= USE_SECONDS:
        state = with_token(state, device, used)
    return Change(state, Entry(scopes), events)


def missing(device: PairedDevice | None, visitor: Visitor) -> PairingReason | None:
    """Why the device needs an approval; None if it has all that it requests."""
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
    """Whether the device's access in that role was revoked."""
    token = None if device is None else device.tokens.get(role)
    return token is not None and token.revoked_at is not None


def requested(
    state: DeviceState, visitor: Visitor, reason: PairingReason, *, request_id: str, at: float
) -> Change[PendingPairing]:
    """Enter a request for approval; each device has one at most, its latest.

    An equal request keeps its id. A different one replaces it under a new id, so that an approval
    always concerns the request that was shown. Raises GatewayBusy.
    """
    known = state.pending.get(visitor.device_id)
    pairing = PendingPairing(
        request_id=request_id,
        device_id=visitor.device_id,
        public_key=visitor.public_key,
        role=visitor.role,
        scopes=visitor.scopes,
        info=_bounded(visitor.info),
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
    """Add the requested access to the device's, and make a token due.

    Revoked access, and that of another key, is not kept. Raises GatewayBusy.
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
    """Remove the requests that are older than PENDING_SECONDS."""
    late = [p for p in state.pending.values() if p.created_at + PENDING_SECONDS <= at]
    if not late:
        return Change(state, None)
    pending = without(state.pending, *(p.device_id for p in late))
    events = (PairingResolved(p.request_id, p.device_id, "expired", at) for p in late)
    return Change(replace(state, pending=pending), None, tuple(events))


def with_token(state: DeviceState, device: PairedDevice, token: DeviceToken) -> DeviceState:
    changed = replace(device, tokens={**device.tokens, token.role: token})
    return replace(state, paired={**state.paired, device.id: changed})


def _bounded(info: DeviceInfo) -> DeviceInfo:
    """`info` with every text cut to `_LONGEST` characters."""
    return DeviceInfo(*(getattr(info, field.name)[:_LONGEST] for field in fields(info)))


def without(kept: Mapping[K, V], *keys: K) -> dict[K, V]:
    return {key: value for key, value in kept.items() if key not in keys}


def _widened(had: DeviceToken | None, pairing: PendingPairing, at: float) -> DeviceToken:
    if had is None:
        return DeviceToken(pairing.role, pairing.scopes, at)
    if had.revoked_at is not None:
        return DeviceToken(pairing.role, pairing.scopes, at, revision=had.revision)
    return replace(had, scopes=had.scopes | pairing.scopes, due=True)


def _pend(state: DeviceState, pairing: PendingPairing) -> DeviceState:
    return replace(state, pending={**state.pending, pairing.device_id: pairing})
