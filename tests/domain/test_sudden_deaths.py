"""Processes that die before anything was written of the attempt that they were in."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.adapters.persistence.sqlite.runs import SqliteRunEvents
from opensoul.adapters.persistence.sqlite.sessions import SqliteStore
from opensoul.domain.errors import RunInterrupted
from opensoul.domain.execution.executor import Executor
from opensoul.domain.execution.generations import Generations
from opensoul.domain.execution.loop import TurnLoop
from opensoul.domain.execution.recovery import MOST_LOST
from opensoul.domain.execution.router import ModelRouter
from opensoul.domain.models.cooldowns import Cooldowns
from opensoul.domain.runs.events import Failed
from opensoul.domain.runs.journal import INTERRUPTED, failed_result
from opensoul.domain.runs.records import RunStatus
from opensoul.domain.runs.spec import OnLeave
from opensoul.domain.tools import Repeat, ToolSpec
from tests.domain.test_durable_steps import ONE, A, Sender, answers, asks
from tests.fakes.domain import FakeClock, FakeIds, FakeModelClient, Gate, agent, run, settings, user

RARELY = 60.0
"""Seconds between two writes of the run log: everything of interest happens before the first."""


@dataclass
class Parts:
    executor: Executor
    queue: LocalQueue
    log: SqliteRunEvents
    store: SqliteStore


@asynccontextmanager
async def process(state: Path, toolbox: Sender, client: FakeModelClient) -> AsyncIterator[Parts]:
    """What a process makes of a state directory."""
    clock, config = FakeClock(), settings([agent("main", ONE)])
    log = SqliteRunEvents(state / "runs.sqlite3", clock=clock, interval=RARELY)
    store = SqliteStore(state / "sessions.sqlite3")
    await store.open()
    await log.start()
    queue = LocalQueue(rows=log, lanes=Lanes(lambda: config.lanes), clock=clock)
    router = ModelRouter(clients={"fake": client}, cooldowns=Cooldowns(clock))
    executor = Executor(
        owner="me",
        runners={"native": TurnLoop(router, toolbox, MemoryApprovals(), clock=clock)},
        store=store,
        catalog=store,
        queue=queue,
        signals=queue,
        run_events=log,
        settings=lambda: config,
        generations=Generations(lambda: config),
        clock=clock,
        new_id=FakeIds(),
    )
    try:
        yield Parts(executor, queue, log, store)
    finally:
        await executor.drain(0)
        await log.close()
        await store.close()


async def killed_in_the_call(state: Path, after: Path, toolbox: Sender) -> None:
    """Leave in `after` what `kill -9` would leave now, in the middle of the tool call."""
    assert toolbox.gate is not None
    await toolbox.gate.reached.wait()
    shutil.copytree(state, after)
    toolbox.gate.opened.set()


async def test_a_call_of_an_attempt_that_nobody_recorded_is_not_repeated(tmp_path: Path) -> None:
    toolbox, client = Sender(gate=Gate()), FakeModelClient()
    asks(client, A)
    answers(client)
    answers(client)
    one, two = tmp_path / "one", tmp_path / "two"
    async with process(one, toolbox, client) as parts:
        spec = run(messages=(user("Send it."),), on_leave=OnLeave.CONTINUE)
        await parts.queue.enqueue(spec, once=True)
        await killed_in_the_call(one, two, toolbox)

    toolbox.gate = None
    async with process(two, toolbox, client) as parts:
        assert [record.attempt for record in await parts.log.unfinished()] == [0]
        await parts.executor.recover()
        await parts.log.ended("run-1")
        turn = await parts.store.turn("run-1")

    assert len(toolbox.sent) == 1
    assert turn is not None
    assert turn.messages[2] == failed_result(A, INTERRUPTED)


async def test_a_run_that_kills_each_process_at_once_ends(tmp_path: Path) -> None:
    toolbox = Sender(ToolSpec("send", "Sends.", repeat=Repeat.SAFE), gate=Gate())
    client = FakeModelClient()
    asks(client, A)
    states = [tmp_path / str(number) for number in range(MOST_LOST + 2)]
    async with process(states[0], toolbox, client) as parts:
        spec = run(messages=(user("Send it."),), on_leave=OnLeave.CONTINUE)
        await parts.queue.enqueue(spec, once=True)
        await killed_in_the_call(states[0], states[1], toolbox)

    for state, after in pairwise(states[1:]):
        toolbox.gate = Gate()
        async with process(state, toolbox, client) as parts:
            await parts.executor.recover()
            await killed_in_the_call(state, after, toolbox)

    async with process(states[-1], toolbox, client) as parts:
        await parts.executor.recover()
        await asyncio.wait_for(parts.log.ended("run-1"), 5)
        record = await parts.log.find("run-1")
        events = [event async for batch in parts.log.follow_kept("run-1") for event in batch.events]

    assert record is not None
    assert record.status is RunStatus.INTERRUPTED
    end = events[-1]
    assert isinstance(end, Failed)
    assert end.code == RunInterrupted.code
    assert len(toolbox.sent) == 1 + MOST_LOST
