"""What a gateway leaves to the workers, and how clients of one process reach Runs of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opensoul.domain.messages import Role, text_message
from opensoul.domain.runs import Aborted, Finished, OnLeave, RunStatus
from opensoul.domain.tools import Decision
from tests.app.delegating import OPERATOR, Office, call, content, office, spawn
from tests.app.nodes import node
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

PATIENCE = 30.0
"""Seconds; after that it hangs."""


@dataclass
class Cluster:
    home: Path
    url: str

    @asynccontextmanager
    async def office(self, name: str, role: str, **sections: Any) -> AsyncIterator[Office]:
        own = self.home / name
        own.mkdir()
        node = {"role": role, "name": name, "leaseSeconds": 30}
        configuration = content("sqlite", **sections.pop("agents", {}))
        whole = {**configuration, "store": {"url": self.url}, "node": node, **sections}
        async with office(own, whole) as made:
            yield made


@pytest.fixture
def cluster(tmp_path: Path, postgres_url: str) -> Cluster:
    return Cluster(tmp_path, postgres_url)


async def owner(office: Office, run_id: str) -> str:
    run = await office.gateway.run(OPERATOR, run_id)
    return str(run.owner)


def node_id(office: Office) -> str:
    return str(office.served.container.bus().node_id)


async def test_a_gateway_executes_commands_and_workers_execute_agents(cluster: Cluster) -> None:
    async with cluster.office("front", "gateway") as front:
        waiting = await front.submit("Hello.")
        command = await front.submit("/help", key="other", commands=True)
        ended = await front.gateway.wait(OPERATOR, command, PATIENCE)
        queued = await front.gateway.run(OPERATOR, waiting)
        async with cluster.office("back", "worker"):
            answer = await front.answer(waiting)

    assert (ended.status, queued.status) == (RunStatus.FINISHED, RunStatus.QUEUED)
    assert answer == "You said: Hello."


@asynccontextmanager
async def front_and_back(cluster: Cluster, **sections: Any) -> AsyncIterator[tuple[Office, Office]]:
    async with (
        cluster.office("front", "gateway", **sections) as front,
        cluster.office("back", "worker", **sections) as back,
    ):
        yield front, back


async def held_behind(front: Office, back: Office, **more: Any) -> str:
    """A run of the front's client that waits in a tool at the back."""
    run_id = await front.submit(call("hold", name="talk"), **more)
    assert await asyncio.wait_for(back.holding.begun.get(), PATIENCE) == "talk"
    return run_id


async def test_any_process_aborts_a_run(cluster: Cluster) -> None:
    async with front_and_back(cluster) as (front, back):
        run_id = await held_behind(front, back)
        held_by = await owner(front, run_id)

        assert await front.gateway.abort(OPERATOR, run_id, "Enough.")
        assert await front.end(run_id) == Aborted("Enough.")
        assert held_by == node_id(back)


async def test_any_process_waits_for_a_run(cluster: Cluster) -> None:
    async with front_and_back(cluster) as (front, back):
        run_id = await held_behind(front, back)
        waiting = asyncio.create_task(front.gateway.wait(OPERATOR, run_id, PATIENCE))
        back.holding.let_go.set()

        assert (await waiting).status is RunStatus.FINISHED


async def test_any_process_gives_a_run_a_message(cluster: Cluster) -> None:
    async with front_and_back(cluster) as (front, back):
        run_id = await held_behind(front, back)
        signals = front.served.container.signals()
        assert await signals.inject(run_id, text_message(Role.USER, "And more."))
        held = back.served.container.run_events().held  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE):
            while not held.get(run_id).signals:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.02)
        back.holding.let_go.set()
        await front.end(run_id)
        turn = await front.served.container.catalog().turn(run_id)

        assert turn is not None
        assert "And more." in [message.text for message in turn.messages]


async def test_any_process_decides_an_approval(cluster: Cluster) -> None:
    asks = {"tools": {"alsoAllow": ["*"], "ask": ["hold"]}}
    async with front_and_back(cluster, agents=asks) as (front, back):
        back.holding.let_go.set()
        run_id = await front.submit(call("hold", name="talk"))
        approvals = front.served.container.approvals()
        async with asyncio.timeout(PATIENCE):
            while not (pending := await approvals.pending(OPERATOR)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await approvals.decide(OPERATOR, pending[0].id, Decision.ALLOW)

        assert "held talk" in await front.answer(run_id)
        assert back.holding.calls == ["talk"]


async def test_sub_agents_of_a_worker_are_runs_like_others(cluster: Cluster) -> None:
    async with front_and_back(cluster) as (front, back):
        run_id = await front.submit(spawn("Say hello.", label="greeter"))
        result = await front.result(run_id)
        (child,) = await front.children()

        assert (result["status"], result["reply"]) == ("ok", "You said: Say hello.")
        assert child.owner in ("", node_id(back))
        assert child.status is RunStatus.FINISHED


async def test_a_sub_agent_ends_with_its_parent_at_another_process(cluster: Cluster) -> None:
    async with front_and_back(cluster) as (front, back):
        run_id = await front.submit(spawn(call("hold", name="child")))
        assert await asyncio.wait_for(back.holding.begun.get(), PATIENCE) == "child"
        (child,) = [run for run in (await front.runs()).values() if run.id != run_id]

        assert await front.gateway.abort(OPERATOR, run_id, "Enough.")
        assert await front.end(child.id) == Aborted("The run that started it has ended.")


async def test_a_message_to_a_session_is_sent_from_a_worker(cluster: Cluster) -> None:
    rules = {"tools": {"alsoAllow": ["*"], "sessions": {"visibility": "all"}}}
    async with front_and_back(cluster, agents=rules) as (front, _):
        await front.answer(await front.submit("Hello.", key="other"))
        send = call("sessions_send", sessionKey="agent:main:other", message="How are you?")
        result = await front.result(await front.submit(send))

        assert result["reply"].endswith("How are you?")


async def test_a_worker_that_ends_hands_its_runs_to_another_one(cluster: Cluster) -> None:
    at_once = {"gateway": {"shutdown": {"graceSeconds": 0}}}
    async with cluster.office("front", "gateway") as front:
        async with cluster.office("first", "worker", **at_once) as first:
            run_id = await held_behind(front, first)
            held_by = await owner(front, run_id)
            first.served.container.lifecycle().begin_drain()
            async with asyncio.timeout(PATIENCE):
                while await owner(front, run_id):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        async with cluster.office("second", "worker") as second:
            assert await asyncio.wait_for(second.holding.begun.get(), PATIENCE) == "talk"
            second.holding.let_go.set()
            end = await front.end(run_id)

            assert isinstance(end, Finished)
            assert held_by == node_id(first)
            assert (await front.gateway.run(OPERATOR, run_id)).attempt == 2


async def test_a_gateway_that_ends_waits_for_its_clients(tmp_path: Path, postgres_url: str) -> None:
    """The runs are executed by a worker, which goes on."""
    gate = asyncio.Event()
    async with (
        FakeProvider(answer("Hel", "lo!", gate=gate)) as provider,
        node(tmp_path, postgres_url, provider.base_url, name="back", role="worker"),
        node(tmp_path, postgres_url, provider.base_url, name="front", role="gateway") as front,
        front.ask(stream=True) as response,
    ):
        await response.content.readuntil(b"Hel")
        drain = asyncio.create_task(front.container.gateway().drain(PATIENCE))
        async with front.ask() as refused:
            status = refused.status
        ended, _ = await asyncio.wait({drain}, timeout=0.1)  # Without a wait it would end at once.
        gate.set()
        rest = await asyncio.wait_for(response.read(), PATIENCE)
        await drain

        assert (status, ended) == (503, set())
        assert b"lo!" in rest
        assert b"[DONE]" in rest


async def test_a_rolling_restart_loses_no_answer(cluster: Cluster) -> None:
    """Chat completions that are begun while each worker is replaced in turn."""
    async with (
        cluster.office("front", "gateway") as front,
        cluster.office("stays", "worker") as stays,
    ):
        stays.holding.let_go.set()
        asked: list[asyncio.Task[str]] = []
        for number in range(3):
            async with cluster.office(f"worker-{number}", "worker") as worker:
                worker.holding.let_go.set()
                asked += [
                    asyncio.create_task(front.served.text(model="opensoul/main", user=f"u{one}"))
                    for one in range(4)
                ]
                await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        answers = await asyncio.wait_for(asyncio.gather(*asked), PATIENCE)

        assert set(answers) == {"[scripted] You said: hello"}
        assert front.gateway.followed == 0


async def test_a_client_that_leaves_a_gateway_stops_the_run_at_the_worker(
    cluster: Cluster,
) -> None:
    async with front_and_back(cluster) as (front, back):
        run_id = await held_behind(front, back, on_leave=OnLeave.ABORT)
        record = await front.gateway.run(OPERATOR, run_id)
        async with front.gateway.follow(OPERATOR, record):
            pass

        assert await front.end(run_id) == Aborted("The client left.")
