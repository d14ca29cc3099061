"""A node whose machine's clock is wrong by an hour decides by the database's clock all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dependency_injector import providers

from tests.app.keyed import administer, asked, bearer, created, provider
from tests.app.nodes import node
from tests.app.quiet_nodes import never
from tests.app.serving import SECRET, Served
from tests.approvals.office import ARGUMENTS, Courier, Office, installed
from tests.control.client import Refused, connected
from tests.control.signing import connected_device
from tests.fakes.behaviours import answer
from tests.fakes.devices import Device
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]

HOUR = 3_600.0
READ = ["operator.read"]
REMOTE = {"X-Forwarded-For": "203.0.113.9"}


@dataclass
class Town:
    """Nodes of which the last one's clock is wrong."""

    right: Served
    wrong: Served
    provider: FakeProvider
    courier: Courier


@pytest_asyncio.fixture(params=[-HOUR, HOUR], ids=["behind", "ahead"])
async def town(
    request: pytest.FixtureRequest, emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[Town]:
    courier = Courier()
    gateway: dict[str, Any] = {
        "auth": {"token": SECRET, "rateLimit": {"maxAttempts": 5}},
        "trustedProxies": ["127.0.0.1"],
        "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
    }
    agents = {
        "defaults": {"model": {"primary": "fake/m"}},
        "list": [{"id": "main"}, {"id": "guide"}],
    }
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                node(
                    *(tmp_path, emptied_postgres, provider.base_url),
                    name=name,
                    parts={
                        **never(),
                        "local_clock": providers.Object(lambda ahead=ahead: time.time() + ahead),
                        "find_plugins": installed(courier=courier),
                    },
                    agents=agents,
                    gateway=gateway,
                    tools={"allow": ["send"]},
                )
            )
            for name, ahead in (("right", 0.0), ("wrong", request.param))
        ]
        yield Town(nodes[0], nodes[1], provider, courier)


async def test_both_nodes_know_what_time_it_is(town: Town) -> None:
    assert abs(town.wrong.container.clock()() - time.time()) < 5
    assert abs(town.wrong.container.local_clock()() - time.time()) > HOUR - 5


async def test_an_approval_expires_at_none_of_them_too_early(town: Town) -> None:
    one, other = (
        Office(served, town.provider, town.courier) for served in (town.right, town.wrong)
    )
    async with one.connected() as peer, other.connected() as deciding:
        approval = await one.waiting(peer)
        for served in (town.wrong, town.right):
            await served.container.approvals().expire()
        kept = await town.right.container.stored_approvals().find(approval["id"])
        assert kept is not None
        assert kept.decision is None
        await deciding.call(
            "exec.approval.resolve", {"id": approval["id"], "decision": "allow-once"}
        )
        ended = await peer.call("agent.wait", {"runId": approval["runId"]})
        assert ended["status"] == "ok"
    assert town.courier.sent == [ARGUMENTS]


async def test_an_approval_of_the_wrong_node_expires_at_the_right_one_in_time(town: Town) -> None:
    office = Office(town.wrong, town.provider, town.courier)
    async with office.connected() as peer:
        approval = await office.waiting(peer)
        book = town.right.container.stored_approvals()
        (kept,) = await book.pending()
        assert kept.id == approval["id"]
        assert abs(kept.created_at - time.time()) < 60
        assert kept.expires_at > time.time()


@pytest.mark.parametrize("made_at", ["right", "wrong"])
async def test_a_key_expires_at_both_at_the_same_time(town: Town, made_at: str) -> None:
    maker: Served = getattr(town, made_at)
    soon = int((time.time() + HOUR / 2) * 1_000)
    key = await created(maker, "brief", expiresAtMs=soon)
    assert [(await asked(served, key)).status for served in (town.right, town.wrong)] == [200, 200]
    with pytest.raises(Refused, match="in the past"):
        await administer(
            maker, "keys.create", name="old", expiresAtMs=int(time.time() - HOUR / 2) * 1_000
        )


async def test_a_device_asks_at_the_wrong_node_and_is_approved_at_the_right_one(town: Town) -> None:
    device = Device()
    options: dict[str, Any] = {"headers": REMOTE, "scopes": READ}
    async with connected(town.right.client, SECRET) as operator:
        with pytest.raises(Refused, match="pairing required"):
            async with connected_device(town.wrong.client, device, SECRET, **options):
                pass
        for served in (town.right, town.wrong):
            await served.container.devices().expire()
        request = (await operator.event("device.pair.requested"))["payload"]
        await operator.call("device.pair.approve", {"requestId": request["requestId"]})
    for served in (town.wrong, town.right):
        async with connected_device(served.client, device, SECRET, **options) as peer:
            assert peer.hello["auth"]["scopes"] == READ


async def test_wrong_secrets_at_both_lock_out_at_both(town: Town) -> None:
    async def status(served: Served, secret: str) -> int:
        headers = bearer(secret) | REMOTE
        async with served.client.get("/v1/models", headers=headers) as response:
            return response.status

    for number in range(5):
        assert await status((town.right, town.wrong)[number % 2], f"guess {number}") == 401
    for served in (town.right, town.wrong):
        while (found := await status(served, SECRET)) == 200:
            pass  # Its copy of the lockouts is half a second old at most.
        assert found == 429


async def test_equal_requests_at_both_are_one_run(town: Town) -> None:
    town.provider.will(answer("Once."))
    key = {"Idempotency-Key": "one"}
    texts = await asyncio.gather(
        town.right.text(key, user="u"),
        town.wrong.text(key, user="u"),
        town.wrong.text(key, user="u"),
    )
    assert set(texts) == {"Once."}
    assert len(town.provider.requests) == 1
