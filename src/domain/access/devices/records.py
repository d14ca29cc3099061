"""Devices as they are kept: who is paired, with which tokens, and who asks to be."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..authentication import Grant, Scope

VerifySignature = Callable[[bytes, bytes, bytes], bool]
"""Whether the ed25519 key (its 32 bytes) made, of the payload, the signature. Never raises."""


NewToken = Callable[[], str]
"""A fresh secret of 256 random bits, as text."""


DEVICES = "devices"
"""The name of their authenticator."""
DEVICE_TOKEN = "device-token"  # noqa: S105 - the name of a method


class Role(StrEnum):
    """What a client connects as. The scopes are those of operators; a node has none."""

    OPERATOR = "operator"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device says of itself, and the address it said it from. Proof of nothing."""

    display_name: str = ""
    platform: str = ""
    device_family: str = ""
    client_id: str = ""
    client_mode: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class DeviceToken:
    """What a device may do in a role, and the digest of the token that says so.

    `digest` is empty until the first token is made. `due`: when the device connects next, it gets
    a new one. Times are Unix seconds.
    """

    role: Role
    scopes: frozenset[Scope]
    created_at: float
    digest: str = field(default="", repr=False)
    due: bool = True
    rotated_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    revision: int = 0
    """How often it was rotated or revoked: connections of an earlier revision are ended. A token
    that is renewed when its device connects ends none."""

    def is_proven_by(self, token: str) -> bool:
        """Whether that is the token, and is in force. Takes as long for a wrong one."""
        same = hmac.compare_digest(self.digest, token_digest(token))
        return same and self.revoked_at is None


@dataclass(frozen=True, slots=True)
class PairedDevice:
    """A device that was let in. `public_key`: base64url, without padding; `tokens`: by role."""

    id: str
    public_key: str
    info: DeviceInfo
    tokens: Mapping[Role, DeviceToken]
    created_at: float
    approved_at: float
    agents: frozenset[str] | None = None
    """The only agents that it may use; None: all agents."""


class PairingReason(StrEnum):
    """Why a device has to be approved; the names are the control protocol's."""

    NOT_PAIRED = "not-paired"
    ROLE = "role-upgrade"
    SCOPE = "scope-upgrade"


@dataclass(frozen=True, slots=True)
class PendingPairing:
    """A device that asks to be let in, or to be let do more. `created_at`: Unix seconds."""

    request_id: str
    device_id: str
    public_key: str
    role: Role
    scopes: frozenset[Scope]
    info: DeviceInfo
    reason: PairingReason
    is_repair: bool
    """The device was paired before."""
    created_at: float


@dataclass(frozen=True, slots=True)
class DeviceState:
    """All that is kept: devices by their id, and what they ask for by the device's id too."""

    paired: Mapping[str, PairedDevice] = field(default_factory=dict)
    pending: Mapping[str, PendingPairing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A token that was just made: the only time that it is seen. `issued_at`: Unix seconds."""

    device_id: str
    role: Role
    scopes: frozenset[Scope]
    token: str = field(repr=False)
    issued_at: float


@dataclass(frozen=True, slots=True)
class PairingRequested:
    """A device asks for something new."""

    pairing: PendingPairing


@dataclass(frozen=True, slots=True)
class PairingResolved:
    """A request is dealt with: `approved`, `rejected`, `expired`, or `superseded` by another one
    of the same device. `ts`: Unix seconds."""

    request_id: str
    device_id: str
    decision: str
    ts: float


@dataclass(frozen=True, slots=True)
class TokenRotated:
    """Somebody had the token replaced: who connected with the old one has no right to stay."""

    device_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """The device is no longer let in, in that role."""

    device_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class DeviceRemoved:
    """The device is no longer let in, in the roles that it had."""

    device_id: str
    roles: tuple[Role, ...] = ()


DeviceEvent = PairingRequested | PairingResolved | TokenRotated | TokenRevoked | DeviceRemoved


def device_of(event: DeviceEvent) -> str:
    """The id of the device that an event is about."""
    if isinstance(event, PairingRequested):
        return event.pairing.device_id
    return event.device_id


def token_digest(token: str) -> str:
    """What is kept of a token. It is random, so that a plain digest tells nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def grant_id(device_id: str, role: Role) -> str:
    """The id of what a device is granted in a role."""
    return f"device:{device_id}:{role.value}"


def grant_of(device: PairedDevice, token: DeviceToken) -> Grant:
    """What the device is granted in the role of the token."""
    agents = "*" if device.agents is None else ",".join(sorted(device.agents))
    return Grant(
        id=grant_id(device.id, token.role),
        principal=f"device:{device.id}",
        scopes=token.scopes,
        agents=device.agents,
        # The times make it another one when the device is paired anew.
        revision=f"{device.created_at}/{token.created_at}/{token.revision}/{agents}",
        issuer=DEVICES,
        method=DEVICE_TOKEN,
    )
