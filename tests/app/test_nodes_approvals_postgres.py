"""Approvals of several Gateways over one database: any node decides on those of another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dependency_injector import providers

from opensoul.domain.runs import RunStatus
from opensoul.domain.tools import Decision
from tests.app.keyed import provider
from tests.app.nodes import serving_nodes
from tests.app.quiet_nodes import Parts, never, without_messages
from tests.app.serving import SECRET, Served, config
from tests.approvals.office import ARGUMENTS, Clock, Courier, Office, calls, installed
from tests.control.client import Peer, Refused, connected
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]


class Bureau:
    """Nodes with one tool that waits for approval; the last node executes the runs."""

    def __init__(self, nodes: list[Served], courier: Courier, provider: FakeProvider) -> None:
        self.nodes = nodes
        self.courier = courier
        self.offices = [Office(node, provider, courier) for node in nodes]

    @property
    def worker(self) -> Served:
        return self.nodes[-1]

    async def status(self, run_id: str) -> RunStatus:
        record = await self.worker.container.run_events().find(run_id)
        assert record is not None
        return record.status

    async def waiting(self, peer: Peer) -> dict[str, Any]:
        """The approval of a run of `peer` which waits for it."""
        approval = await self.offices[0].waiting(peer)
        async for batch in self.worker.container.run_events().follow(approval["runId"]):
            if type(batch.events[-1]).__name__ == "Waiting":
                break
        return approval


@asynccontextmanager
async def bureau(
    home: Path, url: str, provider: FakeProvider, parts: Callable[[], Parts] = never, **more: Any
) -> AsyncIterator[Bureau]:
    courier = Courier()
    whole = config(
        provider.base_url,
        tools={"allow": ["send"]},
        agents={
            "defaults": {"model": {"primary": "fake/m"}},
            "list": [{"id": "main"}, {"id": "guide"}],
        },
    )

    def made() -> Parts:
        return {"find_plugins": installed(courier=courier), **parts(), **more}

    roles = ("gateway", "gateway", "worker")
    async with serving_nodes(home, url, whole, roles, made) as nodes:
        yield Bureau(nodes, courier, provider)


@pytest_asyncio.fixture
async def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def rooms(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider, clock: Clock
) -> AsyncIterator[Bureau]:
    async with bureau(tmp_path, emptied_postgres, provider, clock=providers.Object(clock)) as rooms:
        yield rooms


@asynccontextmanager
async def peers(rooms: Bureau) -> AsyncIterator[list[Peer]]:
    """A client of each gateway."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(connected(node.client, SECRET))
            for node in rooms.nodes[:2]
        ]


@pytest.mark.parametrize("parts", [never, without_messages])
async def test_an_approval_of_a_worker_is_shown_at_all_gateways_and_decided_at_any(
    emptied_postgres: str,
    tmp_path: Path,
    provider: FakeProvider,
    parts: Callable[[], Parts],
) -> None:
    async with (
        bureau(tmp_path, emptied_postgres, provider, parts) as rooms,
        peers(rooms) as (one, other),
    ):
        approval = await rooms.waiting(one)
        seen = await other.event("exec.approval.requested")
        assert seen["payload"]["id"] == approval["id"]
        decision = {"id": approval["id"], "decision": "allow-once"}
        await other.call("exec.approval.resolve", decision)
        for peer in (one, other):
            resolved = await peer.event("exec.approval.resolved")
            assert resolved["payload"]["id"] == approval["id"]
        ended = await one.call("agent.wait", {"runId": approval["runId"]})
        assert ended["status"] == "ok"
        assert rooms.courier.sent == [ARGUMENTS]


@pytest.mark.parametrize(
    "decisions", [("allow-once", "deny"), ("allow-once", "allow-once"), ("deny", "allow-always")]
)
async def test_of_two_decisions_at_two_gateways_at_once_one_counts_and_the_other_is_told_so(
    rooms: Bureau, decisions: tuple[str, str]
) -> None:
    async with peers(rooms) as clients:
        for number in range(6):
            rooms.offices[0].provider.will(calls({**ARGUMENTS, "number": number}), answer("Done."))
            run_id = f"run {number}"
            asked = {"agentId": "guide", "message": "Send it.", "idempotencyKey": run_id}
            await clients[0].call("agent", asked)
            ids = [
                (await client.event("exec.approval.requested", runId=run_id))["payload"]["id"]
                for client in clients
            ]
            sent_before = len(rooms.courier.sent)
            order = (0, 1) if number % 2 else (1, 0)
            outcomes = await asyncio.gather(
                *(
                    clients[at].call("exec.approval.resolve", {"id": ids[at], "decision": what})
                    for at, what in zip(order, decisions, strict=True)
                ),
                return_exceptions=True,
            )
            refusals = [one for one in outcomes if isinstance(one, Refused)]
            assert len(refusals) == 1, outcomes
            counted = decisions[1 if isinstance(outcomes[0], Refused) else 0]
            said = f"was decided before: {counted.removesuffix('-once')}."
            assert refusals[0].error["message"].endswith(said)
            for client in clients:
                resolved = await client.event("exec.approval.resolved", id=ids[0])
                assert resolved["payload"]["decision"] == counted
            ended = await clients[0].call("agent.wait", {"runId": run_id})
            assert ended["status"] == "ok"
            assert len(rooms.courier.sent) - sent_before == (0 if counted == "deny" else 1)


async def test_a_code_of_one_gateway_decides_at_the_other(
    rooms: Bureau, provider: FakeProvider
) -> None:
    one, other = rooms.offices[:2]
    asked = await one.asked(user="ada")
    said = await other.said(f"approve {asked.code}", user="ada")
    assert "It is sent." in said.text
    assert rooms.courier.sent == [ARGUMENTS]


async def test_an_approval_expires_once_however_many_nodes_look(
    rooms: Bureau, clock: Clock
) -> None:
    async with peers(rooms) as clients:
        approval = await rooms.waiting(clients[0])
        clock.ahead += 100_000
        services = [node.container.approvals() for node in rooms.nodes]
        await asyncio.gather(*(service.expire() for service in services))
        for client in clients:
            resolved = await client.event("exec.approval.resolved")
            assert resolved["payload"]["decision"] == "expired"
        await clients[0].call("agent.wait", {"runId": approval["runId"]})
        record = await rooms.worker.container.run_events().find(approval["runId"])
        assert record is not None
        assert record.attempt == 2
        for client in clients:
            await client.call("agents.list")
            assert not [e for e in client.events if e["event"] == "exec.approval.resolved"]
    assert rooms.courier.sent == []


async def test_a_node_that_starts_leaves_alone_what_its_peers_pass_on(
    rooms: Bureau, clock: Clock
) -> None:
    async with peers(rooms) as (client, _):
        approval = await rooms.waiting(client)
        service = rooms.nodes[1].container.approvals()
        await service.recover()
        await service.recover()
        assert await rooms.status(approval["runId"]) is RunStatus.WAITING
        # The node that decided died before it passed the decision on.
        book = rooms.nodes[0].container.stored_approvals()
        await book.decide(approval["id"], Decision.ALLOW, by="operator", at=clock())
        await service.recover()
        assert await rooms.status(approval["runId"]) is RunStatus.WAITING
        await service.recover()
        ended = await client.call("agent.wait", {"runId": approval["runId"]})
        assert ended["status"] == "ok"
    assert rooms.courier.sent == [ARGUMENTS]
