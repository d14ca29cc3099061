"""`device.*`: who asks, who is let in, and what that does to those who are connected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from opensoul.adapters.persistence.memory import MemoryLimits
from opensoul.adapters.transports.control.connection.connection import Connection
from opensoul.adapters.transports.control.handshake.devices import broadcast_devices
from opensoul.adapters.transports.control.methods.devices import DeviceMethods
from opensoul.domain.access import Principal, Scope
from opensoul.domain.access.devices.pairing import PairingRequired, Visitor
from opensoul.domain.access.devices.records import Role
from opensoul.domain.errors import InvalidRequest
from opensoul.domain.services.access import Access, principal_by
from opensoul.domain.services.devices import Devices
from tests.fakes.devices import Desk, Device, accepts

from .methods import READER, Bench, connection, events

PAIRING = Principal("pairing", frozenset({Scope.PAIRING, Scope.READ}), "token")


@dataclass
class Room:
    """`phone` is a client with the device; `approver` and `reader` look on."""

    bench: Bench
    devices: Devices
    access: Access
    device: Device
    phone: Connection
    approver: Connection
    reader: Connection

    async def request(self, *scopes: Scope) -> str:
        with pytest.raises(PairingRequired) as required:
            await self.devices.enter(self.visitor(*scopes), token=None)
        return required.value.request_id

    async def pair(self, *scopes: Scope, role: Role = Role.OPERATOR) -> str:
        """Pair the device, and connect `phone` by what it is granted."""
        visitor = self.device.visitor(*scopes, role=role)
        entry = await self.devices.enter(visitor, token=None, silent=True)
        grant = self.devices.grant(self.device.id, role)
        assert entry.minted is not None
        assert grant is not None
        principal = principal_by(grant, address="127.0.0.1")
        self.access.hold(principal, lambda reason: self.phone.close(4001, reason))
        return entry.minted.token

    def visitor(self, *scopes: Scope) -> Visitor:
        return self.device.visitor(*scopes)

    async def told(self, client: Connection) -> list[tuple[str, Any]]:
        return [
            (event["event"], event["payload"])
            for event in await events(client)
            if event["event"].startswith("device.")
        ]


@pytest_asyncio.fixture
async def room() -> AsyncIterator[Room]:
    bench, device = Bench(), Device()
    devices = await Desk(clock=bench.clock).open()
    broadcast_devices(devices, bench.hub)
    access = Access(
        settings=lambda: bench.settings, limits=MemoryLimits(bench.clock), devices=devices
    )
    bench.handlers = bench.handlers_of(DeviceMethods, devices=devices)
    phone, approver = connection("phone", READER), connection("approver", PAIRING)
    reader = connection("reader", READER)
    async with AsyncExitStack() as stack:
        for client in (phone, approver, reader):
            await stack.enter_async_context(bench.hub.registered(client))
        yield Room(bench, devices, access, device, phone, approver, reader)


async def test_a_request_is_listed_and_told_to_who_may_approve_it(room: Room) -> None:
    request_id = await room.request(Scope.READ)

    listed = await room.bench.ask("device.pair.list")

    (pending,) = listed["pending"]
    assert pending == {
        "requestId": request_id,
        "deviceId": room.device.id,
        "publicKey": room.device.public_key,
        "displayName": "phone",
        "role": "operator",
        "roles": ["operator"],
        "scopes": ["operator.read"],
        "reason": "not-paired",
        "isRepair": False,
        "ts": 1_000_000_000,
    }
    assert listed["paired"] == []
    assert await room.told(room.approver) == [("device.pair.requested", pending)]
    assert await room.told(room.reader) == []


async def test_an_approved_device_is_listed_without_its_secret(room: Room) -> None:
    request_id = await room.request(Scope.READ)
    answer = await room.bench.ask("device.pair.approve", room.approver, requestId=request_id)
    token = (await room.devices.enter(room.visitor(Scope.READ), token=None)).minted
    assert token is not None

    listed = await room.bench.ask("device.pair.list")

    (row,) = listed["paired"]
    assert answer["requestId"] == request_id
    assert answer["device"]["deviceId"] == row["deviceId"] == room.device.id
    assert (row["roles"], row["scopes"]) == (["operator"], ["operator.read"])
    assert row["tokens"] == [
        {
            "role": "operator",
            "scopes": ["operator.read"],
            "createdAtMs": 1_000_000_000,
            "lastUsedAtMs": 1_000_000_000,
        }
    ]
    assert token.token not in repr(listed)
    told = (await room.told(room.approver))[-1]
    assert told == (
        "device.pair.resolved",
        {
            "requestId": request_id,
            "deviceId": room.device.id,
            "decision": "approved",
            "ts": 1_000_000_000,
        },
    )


async def test_a_rejected_request_is_answered_and_told(room: Room) -> None:
    request_id = await room.request(Scope.READ)
    answer = await room.bench.ask("device.pair.reject", requestId=request_id)
    assert answer == {"requestId": request_id, "deviceId": room.device.id}
    assert (await room.told(room.approver))[-1][1]["decision"] == "rejected"
    with pytest.raises(InvalidRequest, match=r"^unknown requestId$"):
        await room.bench.ask("device.pair.reject", requestId=request_id)


async def test_revoking_ends_the_devices_connections_at_once(room: Room) -> None:
    await room.pair(Scope.READ)
    answer = await room.bench.ask("device.token.revoke", deviceId=room.device.id, role="operator")
    assert answer == {
        "deviceId": room.device.id,
        "role": "operator",
        "revokedAtMs": 1_000_000_000,
    }
    assert await room.phone.closed() == (4001, "device token revoked")
    assert not room.approver.is_closing
    (row,) = (await room.bench.ask("device.pair.list"))["paired"]
    assert (row["roles"], row["scopes"]) == ([], [])


async def test_rotating_shows_the_new_token_and_ends_connections_with_the_old(room: Room) -> None:
    await room.pair(Scope.READ, Scope.WRITE)
    answer = await room.bench.ask(
        "device.token.rotate", deviceId=room.device.id, role="operator", scopes=["operator.read"]
    )
    assert answer["scopes"] == ["operator.read"]
    assert answer["rotatedAtMs"] == 1_000_000_000
    assert await accepts(room.devices, room.device.id, answer["token"])
    assert await room.phone.closed() == (4001, "device token rotated")
    whole = await room.bench.ask(
        "device.token.rotate", deviceId=room.device.id, role="operator", scopes=None
    )
    assert whole["scopes"] == ["operator.read"]


async def test_a_scope_that_does_not_exist_is_named(room: Room) -> None:
    await room.pair(Scope.READ)
    with pytest.raises(InvalidRequest, match=r"unknown scope: operator\.everything"):
        await room.bench.ask(
            "device.token.rotate",
            deviceId=room.device.id,
            role="operator",
            scopes=["operator.everything"],
        )


async def test_connections_of_another_role_stay_unless_the_device_is_removed(room: Room) -> None:
    await room.devices.enter(room.visitor(Scope.READ), token=None, silent=True)
    await room.pair(role=Role.NODE)
    await room.devices.revoke(PAIRING, room.device.id, "operator")
    assert not room.phone.is_closing
    assert await room.bench.ask("device.pair.remove", deviceId=room.device.id) == {
        "deviceId": room.device.id
    }
    assert await room.phone.closed() == (4001, "device removed")


async def test_requests_expire_while_nobody_comes(room: Room) -> None:
    await room.request(Scope.READ)
    await room.told(room.approver)
    room.bench.clock.advance(300)
    await room.devices.expire()
    assert (await room.told(room.approver))[-1][1]["decision"] == "expired"
