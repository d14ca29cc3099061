"""A handshake with all that it is built on, and clients that take part in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from opensoul.adapters.persistence.common.no_catalog import NoCatalog
from opensoul.adapters.persistence.memory import MemoryLimits
from opensoul.adapters.transports.control.handshake.handshake import Admitted, Handshake
from opensoul.adapters.transports.control.handshake.origins import Peer
from opensoul.adapters.transports.control.protocol.frames import RequestFrame
from opensoul.adapters.transports.control.protocol.problems import ConnectRejection
from opensoul.domain.access.addresses import ClientAddress
from opensoul.domain.access.devices.proofs import Claim
from opensoul.domain.execution.generations import Generations
from opensoul.domain.models.calls import Secret
from opensoul.domain.services.access import Access
from opensoul.domain.services.devices import Devices
from opensoul.domain.services.gateway import Gateway
from opensoul.domain.settings import AuthMode, AuthSettings, LockoutSettings, Settings
from tests.fakes.devices import Desk, Device
from tests.fakes.domain import FakeIds, FakeQueue, FakeRunEvents, settings

SECRET = "secret"
LOCAL = Peer(ClientAddress("127.0.0.1"), "localhost:18789", None, "nonce-1")
REMOTE = replace(LOCAL, address=ClientAddress("203.0.113.7"), host="198.51.100.1:18789")
FORWARDED = replace(LOCAL, address=ClientAddress("127.0.0.1", forwarded_by_stranger=True))
PAGE = replace(LOCAL, origin="http://localhost:18789")


def auth_settings(mode: AuthMode = AuthMode.TOKEN) -> AuthSettings:
    secret = None if mode is AuthMode.NONE else Secret(SECRET)
    return AuthSettings(mode, secret, LockoutSettings(max_attempts=3))


@dataclass
class Bench:
    """`settings` may be replaced at any time."""

    session_service: Desk = field(default_factory=Desk)
    settings: Settings = field(default_factory=lambda: settings(auth=auth_settings()))

    async def open(self) -> Bench:
        self.lockout = MemoryLimits(self.session_service.clock)
        self.devices: Devices = await self.session_service.open()
        self.access = Access(
            settings=lambda: self.settings, limits=self.lockout, devices=self.devices
        )
        queue = FakeQueue()
        self.gateway = Gateway(
            catalog=NoCatalog(),
            settings=lambda: self.settings,
            generations=Generations(lambda: self.settings),
            access=self.access,
            queue=queue,
            signals=queue,
            executor=queue,
            run_events=FakeRunEvents(),
            clock=self.session_service.clock,
            new_id=FakeIds(),
        )
        self.handshake = Handshake(self.gateway, self.devices)
        return self

    def mode(self, mode: AuthMode) -> None:
        self.settings = replace(self.settings, auth=auth_settings(mode))

    async def admit(
        self, params: object, caller: Peer = LOCAL, method: str = "connect"
    ) -> Admitted:
        frame = RequestFrame(type="req", id="1", method=method, params=params)
        return await self.handshake.admit(frame, caller)

    def stands(self, admitted: Admitted) -> bool:
        return self.access.stands(admitted.principal)

    async def refused(
        self, params: object, caller: Peer = LOCAL, method: str = "connect"
    ) -> ConnectRejection:
        with pytest.raises(ConnectRejection) as refused:
            await self.admit(params, caller, method)
        return refused.value

    def signed(
        self, device: Device, caller: Peer = LOCAL, version: int = 3, **changes: Any
    ) -> dict[str, Any]:
        """The parameters of a client with a device."""
        params = connect(**changes)
        auth, client = params.get("auth", {}), params["client"]
        token = auth.get("token") or auth.get("deviceToken") or auth.get("bootstrapToken") or ""
        claim = Claim(
            client["id"],
            client["mode"],
            params.get("role", "operator"),
            tuple(params.get("scopes", ())),
            token,
            client["platform"],
            client.get("deviceFamily", ""),
        )
        at = self.session_service.clock()
        proof = device.proof(claim, nonce=caller.nonce, at=at, version=version)
        params["device"] = {
            "id": proof.device_id,
            "publicKey": proof.public_key,
            "signature": proof.signature,
            "signedAt": proof.signed_at,
            "nonce": proof.nonce,
        }
        return params


def connect(
    *,
    token: str | None = None,
    client: str = "cli",
    mode: str = "cli",
    auth: dict[str, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The parameters of `connect`."""
    brought = {**({} if token is None else {"token": token}), **(auth or {})}
    return {
        "minProtocol": 3,
        "maxProtocol": 4,
        "client": {"id": client, "version": "1", "platform": "Linux", "mode": mode},
        **({"auth": brought} if brought else {}),
        **changes,
    }


def details(refusal: ConnectRejection) -> dict[str, Any]:
    found = refusal.error.details
    assert isinstance(found, dict)
    return found
