"""A device that connects: what its token says, what it lacks, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import Forbidden, Unauthenticated
from ..authentication import Scope, covers
from .pairing import Change, Fresh, Visitor, approved, is_revoked, missing, requested, with_token
from .records import (
    DeviceEvent,
    DeviceState,
    DeviceToken,
    MintedToken,
    PairedDevice,
    PairingReason,
    PendingPairing,
    token_digest,
)

USE_SECONDS = 3_600.0
"""How exactly it is known when a token was used last: a connection is not worth a write."""


class PairingRequired(Forbidden):
    """Somebody has to approve first: the request of that id."""

    code = "pairing_required"

    def __init__(self, request_id: str, reason: PairingReason) -> None:
        super().__init__("The device has to be approved first.")
        self.request_id = request_id
        self.reason = reason


class TokenRefused(Unauthenticated):
    """That token is not the device's, or no longer."""

    code = "device_token_mismatch"


@dataclass(frozen=True, slots=True)
class Entry:
    """A device is let in: with these scopes, and maybe a token that was made just now."""

    scopes: frozenset[Scope]
    minted: MintedToken | None = None


def holder(device: PairedDevice | None, token: str) -> DeviceToken | None:
    """The device's token that this is, in whichever role."""
    if device is None:
        return None
    held = [one for one in device.tokens.values() if one.is_proven_by(token)]
    return held[0] if held else None


def suffices(device: PairedDevice | None, visitor: Visitor, token: str) -> bool:
    """Whether the device may have all it asks for by that token alone."""
    held = holder(device, token)
    return held is not None and held.role is visitor.role and missing(device, visitor) is None


def entered(
    state: DeviceState, visitor: Visitor, fresh: Fresh, *, token: str | None, silent: bool
) -> Change[Entry] | Change[PendingPairing]:
    """The device is let in, or asks to be. `token` is None where it brought the shared secret.

    `silent` approves what is new, but never what somebody revoked. Raises TokenRefused,
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
    # Nobody has to hear of a request that is answered in the same moment.
    return _let_in(granted.state, visitor, fresh, granted.events)


def mint(
    state: DeviceState, device: PairedDevice, held: DeviceToken, fresh: Fresh
) -> tuple[DeviceState, MintedToken]:
    """A new token in the place of the old one."""
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
