"""Paired devices, their tokens and pending requests, as they are stored."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ...scopes import Scope
from ..authentication import Grant

VerifySignature = Callable[[bytes, bytes, bytes], bool]
"""Whether an ed25519 key (32 bytes) signed a payload with this signature. Never raises."""

DEVICES = "devices"
"""The name of their authenticator."""
DEVICE_TOKEN = "device-token"  # noqa: S105 - the name of a method


class Role(StrEnum):
    """The role of a client. Only operators have scopes."""

    OPERATOR = "operator"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Unverified details that a device sent, and the address that it connected from."""

    display_name: str = ""
    platform: str = ""
    device_family: str = ""
    client_id: str = ""
    client_mode: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class DeviceToken:
    """A device's access in a role, and the digest of its token.

    `digest` is empty until the first token is made. `due`: the device receives a new token when it
    connects next. Times are Unix seconds.
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
    """Incremented by `rotate` and `revoke`, which end the connections of earlier revisions. A token
    that is renewed when its device connects keeps it."""

    def is_proven_by(self, token: str) -> bool:
        """Whether `token` is this token and is in force, in constant time."""
        same = hmac.compare_digest(self.digest, token_digest(token))
        return same and self.revoked_at is None


@dataclass(frozen=True, slots=True)
class PairedDevice:
    """An approved device. `public_key`: base64url, without padding; `tokens`: by role."""

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
    """A device's request for access, or for more access. `created_at`: Unix seconds."""

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
    """The stored state: devices and their pending requests, both by device id."""

    paired: Mapping[str, PairedDevice] = field(default_factory=dict)
    pending: Mapping[str, PendingPairing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A new token, which is not stored in clear text. `issued_at`: Unix seconds."""

    device_id: str
    role: Role
    scopes: frozenset[Scope]
    token: str = field(repr=False)
    issued_at: float


@dataclass(frozen=True, slots=True)
class PairingRequested:
    """A device requests access."""

    pairing: PendingPairing


@dataclass(frozen=True, slots=True)
class PairingResolved:
    """A request was `approved`, `rejected`, `expired`, or `superseded` by another one of the same
    device. `ts`: Unix seconds."""

    request_id: str
    device_id: str
    decision: str
    ts: float


@dataclass(frozen=True, slots=True)
class TokenRotated:
    """A token was replaced on request; connections with the old one are ended."""

    device_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """A device's access in a role was revoked."""

    device_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class DeviceRemoved:
    """A device was removed; `roles`: those of its tokens."""

    device_id: str
    roles: tuple[Role, ...] = ()


DeviceEvent = PairingRequested | PairingResolved | TokenRotated | TokenRevoked | DeviceRemoved


def device_of(event: DeviceEvent) -> str:
    if isinstance(event, PairingRequested):
        return event.pairing.device_id
    return event.device_id


def token_digest(token: str) -> str:
    """The stored digest of a token. Tokens are random, so a plain digest reveals nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def grant_id(device_id: str, role: Role) -> str:
    return f"device:{device_id}:{role.value}"


def grant_of(device: PairedDevice, token: DeviceToken) -> Grant:
    """The device's grant in the role of the token."""
    agents = "*" if device.agents is None else ",".join(sorted(device.agents))
    return Grant(
        id=grant_id(device.id, token.role),
        principal=f"device:{device.id}",
        scopes=token.scopes,
        agents=device.agents,
        # The times change when the device is paired again.
        revision=f"{device.created_at}/{token.created_at}/{token.revision}/{agents}",
        issuer=DEVICES,
        method=DEVICE_TOKEN,
    )
