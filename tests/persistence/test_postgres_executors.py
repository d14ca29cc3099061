"""Executors of several processes over one PostgreSQL database: one that dies is replaced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.persistence.postgres import Database
from opensoul.adapters.persistence.postgres.runs import PostgresQueue, PostgresRunEvents
from opensoul.adapters.persistence.postgres.sessions import PostgresStore
from opensoul.domain.errors import RunInterrupted
from opensoul.domain.execution.executor import Executor
from opensoul.domain.execution.generations import Generations
from opensoul.domain.execution.loop import TurnLoop
from opensoul.domain.execution.router import ModelRouter
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.models.cooldowns import Cooldowns
from opensoul.domain.ports import AgentRunner
from opensoul.domain.runs.events import Failed, Finished, Resumed, RunEvent, Started
from opensoul.domain.runs.journal import INTERRUPTED, failed_result
from opensoul.domain.runs.spec import OnLeave
from tests.domain.test_durable_steps import ONE, A, Sender, answers, asks
from tests.fakes.domain import (
    FakeIds,
    FakeModelClient,
    FakeRunner,
    Gate,
    agent,
    answered,
    run,
    settings,
    user,
)

from .pooler import server_of
from .postgres_runs import NEVER, all_of
from .postgres_stores import few_connections

LEASE = 30.0
_LATER = """
    CREATE OR REPLACE FUNCTION server_now() RETURNS double precision LANGUAGE sql VOLATILE
        AS 'SELECT extract(epoch FROM clock_timestamp())::double precision + 1000'"""


@dataclass
class Process:
    executor: Executor
    queue: PostgresQueue
    events: PostgresRunEvents
    store: PostgresStore
    database: Database

    async def told(self, run_id: str = "run-1") -> list[RunEvent]:
        return [event.event for event in await all_of(self.events.follow_kept(run_id))]

    async def take_over(self) -> None:
        """Claim the Run that another process holds: its lease has expired, and it does not know."""
        await self.database.execute(_LATER)
        await self.database.execute("UPDATE runs SET lease_until = lease_until - 1")
        async with asyncio.timeout(20):
            while not len(self.executor):  # A row that is being written is passed over.
                await self.queue.look()


@asynccontextmanager
async def process(
    url: str, name: str, runner: AgentRunner, *, works: bool = True
) -> AsyncIterator[Process]:
    config = settings([agent("main", ONE)])
    database = few_connections(url)
    events = PostgresRunEvents(
        database, clock=time.time, look_every=NEVER, listen_url=server_of(url)
    )
    queue = PostgresQueue(events, limits=lambda: config.lanes, lease=LEASE, works=works)
    store = PostgresStore(database)
    executor = Executor(
        owner=name,
        runners={"native": runner},
        store=store,
        catalog=store,
        queue=queue,
        signals=queue,
        run_events=events,
        settings=lambda: config,
        generations=Generations(lambda: config),
        clock=time.time,
        new_id=FakeIds(),
        lease=queue.lease,
    )
    await store.open()
    await events.start()
    await executor.recover()
    try:
        yield Process(executor, queue, events, store, database)
    finally:
        await executor.drain(0)
        await queue.close()
        await events.close()
        await store.close()


def quick() -> FakeRunner:
    return FakeRunner(TextDelta("hi"), answered())


async def test_a_run_that_one_process_accepts_is_executed_by_another(postgres_url: str) -> None:
    async with (
        process(postgres_url, "gateway", quick(), works=False) as gateway,
        process(postgres_url, "worker", quick()),
    ):
        await gateway.queue.enqueue(run())

        events = await gateway.told()

        assert [type(event) for event in events] == [Started, TextDelta, Finished]
        turn = await gateway.store.turn("run-1")
        assert turn is not None
        assert turn.messages[-1].text == "hi"


async def test_a_run_whose_process_is_paused_goes_on_elsewhere_and_is_stored_once(
    postgres_url: str,
) -> None:
    gate = Gate()
    paused = FakeRunner(gate, TextDelta("late"), answered("late"))
    async with (
        process(postgres_url, "paused", paused) as zombie,
        process(postgres_url, "heir", quick(), works=True) as heir,
    ):
        await zombie.queue.enqueue(run())
        await gate.reached.wait()
        await anext(zombie.events.follow_kept("run-1"))  # Its start is stored.
        await heir.take_over()
        events = await heir.told()
        gate.opened.set()
        async with asyncio.timeout(20):
            while len(zombie.executor):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.005)

        assert [type(event) for event in events] == [Started, Resumed, TextDelta, Finished]
        assert await zombie.told() == events
        turn = await zombie.store.turn("run-1")
        assert turn is not None
        assert turn.messages[-1].text == "hi"
        session = await zombie.store.load(run().session_key, 10_000)
        assert session is not None
        assert session.message_count == 2


@pytest.mark.parametrize(
    ("on_leave", "end"), [(OnLeave.ABORT, Failed), (OnLeave.CONTINUE, Finished)]
)
async def test_a_streamed_answer_that_has_begun_is_not_begun_again(
    postgres_url: str, on_leave: OnLeave, end: type[RunEvent]
) -> None:
    gate = Gate()
    paused = FakeRunner(TextDelta("a"), gate, answered("a"))
    heirs = quick()
    async with (
        process(postgres_url, "paused", paused) as zombie,
        process(postgres_url, "heir", heirs) as heir,
    ):
        await zombie.queue.enqueue(run(on_leave=on_leave))
        await gate.reached.wait()
        assert (await anext(zombie.events.follow_kept("run-1", 1))).events == (TextDelta("a"),)
        await heir.take_over()
        events = await heir.told()
        gate.opened.set()

        assert isinstance(events[-1], end)
        if isinstance(events[-1], Failed):
            assert events[-1].code == RunInterrupted.code
        assert len(heirs.seen) == (on_leave is OnLeave.CONTINUE)


async def test_an_unsafe_tool_is_not_called_again_by_another_process(postgres_url: str) -> None:
    toolbox, client = Sender(gate=Gate()), FakeModelClient()
    asks(client, A)
    answers(client)
    answers(client)

    def loop() -> TurnLoop:
        router = ModelRouter(clients={"fake": client}, cooldowns=Cooldowns(time.time))
        return TurnLoop(router, toolbox, MemoryApprovals(), clock=time.time)

    assert toolbox.gate is not None
    async with (
        process(postgres_url, "dead", loop()) as dead,
        process(postgres_url, "heir", loop()) as heir,
    ):
        spec = run(messages=(user("Send it."),), on_leave=OnLeave.CONTINUE)
        await dead.queue.enqueue(spec, once=True)
        await toolbox.gate.reached.wait()
        await heir.take_over()
        events = await heir.told()
        turn = await heir.store.turn("run-1")
        toolbox.gate.opened.set()

        assert isinstance(events[-1], Finished)
        assert len(toolbox.sent) == 1
        assert turn is not None
        assert turn.messages[2] == failed_result(A, INTERRUPTED)


async def test_runs_are_handed_over_when_their_process_ends(postgres_url: str) -> None:
    gate = Gate()
    async with process(postgres_url, "gateway", quick(), works=False) as gateway:
        async with process(postgres_url, "ends", FakeRunner(gate, answered())):
            await gateway.queue.enqueue(run())
            await gate.reached.wait()
            await anext(gateway.events.follow_kept("run-1"))
        async with process(postgres_url, "next", quick()) as following:
            events = await gateway.told()

            assert [type(event) for event in events] == [Started, Resumed, TextDelta, Finished]
            turn = await following.store.turn("run-1")
            assert turn is not None


async def test_a_process_that_ends_leaves_the_runs_of_others_alone(postgres_url: str) -> None:
    gate = Gate()
    async with process(postgres_url, "stays", FakeRunner(gate, answered())) as stays:
        await stays.queue.enqueue(run("run-1"))
        await stays.queue.enqueue(run("run-2"))
        await gate.reached.wait()
        async with process(postgres_url, "ends", quick(), works=False):
            pass
        gate.opened.set()

        for run_id in ("run-1", "run-2"):
            assert isinstance((await stays.told(run_id))[-1], Finished)
