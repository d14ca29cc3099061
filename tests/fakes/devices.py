"""Devices with keys of their own, for tests of pairing and of the handshake."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from opensoul.adapters.system.files.devices import MemoryDeviceBook
from opensoul.adapters.system.signatures import verify_signature
from opensoul.domain.access import (
    ALL_SCOPES,
    ClientAddress,
    Credential,
    DeviceCredential,
    Principal,
    Scope,
)
from opensoul.domain.access.devices.pairing import Visitor
from opensoul.domain.access.devices.proofs import Claim, Proof, payload_v2, payload_v3
from opensoul.domain.access.devices.records import DeviceEvent, DeviceInfo, DeviceState, Role
from opensoul.domain.errors import StoreFailed
from opensoul.domain.services.devices import Devices
from tests.fakes.domain import FakeClock, FakeIds

ADMIN = Principal("operator", ALL_SCOPES, "token")


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Device:
    """A device with its own key, which signs like the client does."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def raw(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def public_key(self) -> str:
        return base64url(self.raw)

    @property
    def pem(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def visitor(self, *scopes: Scope, role: Role = Role.OPERATOR, name: str = "phone") -> Visitor:
        return Visitor(self.id, self.public_key, role, frozenset(scopes), DeviceInfo(name))

    def proof(self, claim: Claim, *, nonce: str | None, at: float, version: int = 3) -> Proof:
        unsigned = Proof(self.id, self.public_key, "", int(at * 1_000), nonce)
        payload = payload_v3(unsigned, claim) if version == 3 else payload_v2(unsigned, claim)
        return replace(unsigned, signature=base64url(self.key.sign(payload)))


class FakeDeviceBook(MemoryDeviceBook):
    """A device book in memory that counts its writes and fails on request."""

    def __init__(self, state: DeviceState | None = None) -> None:
        super().__init__(state)
        self.saves = 0
        self.failure: StoreFailed | None = None

    async def save(self, state: DeviceState) -> bool:
        if self.failure is not None:
            raise self.failure
        self.saves += 1
        return await super().save(state)


class FakeTokens:
    """`token-1`, `token-2`, ..."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        return f"token-{self.made}"


@dataclass
class Desk:
    """An opened Devices service with its dependencies, and the changes that it reported."""

    new_id: Callable[[], str] = field(default_factory=FakeIds)

    book: FakeDeviceBook = field(default_factory=FakeDeviceBook)
    clock: FakeClock = field(default_factory=FakeClock)
    events: list[DeviceEvent] = field(default_factory=list)

    async def open(self) -> Devices:
        devices = Devices(
            book=self.book,
            clock=self.clock,
            verify=verify_signature,
            new_id=lambda: self.new_id(),
            new_token=FakeTokens(),
        )
        await devices.open()
        devices.on_change(self.events.append)
        return devices


def names(events: Iterable[DeviceEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def accepts(devices: Devices, device_id: str, token: str) -> bool:
    """Whether a token proves anything for that device."""
    proof = DeviceCredential(device_id, Role.OPERATOR, token)
    credential = Credential(ClientAddress("203.0.113.9"), device=proof)
    return await devices.authenticate(credential) is not None
