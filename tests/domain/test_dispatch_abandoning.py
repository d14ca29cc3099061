"""Runners that do not stop when they should: abandoned, and what they do afterwards is void."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
import pytest_asyncio

from opensoul.domain.models.calls import TextDelta
from opensoul.domain.ports import RunContext
from opensoul.domain.runs.events import Aborted, Failed, Finished, RunEvent, RunnerEvent, Started
from opensoul.domain.sessions.keys import SessionKey
from tests.domain.rig import Rig
from tests.fakes.domain import Gate, answered, run

PATIENCE = 0.01
ABANDONED = "Its runner did not stop within 0.01 s and was abandoned."


class DeafRunner:
    """Swallows every cancellation, at work and in its clearing up, until it is let go.

    `first`: what it yields before it goes deaf. Let go, it goes on as if nothing had happened.
    """

    def __init__(self, *first: RunnerEvent) -> None:
        self._first = first
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = 0

    def history_budget(self, context: RunContext) -> int:
        return 0

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        try:
            for event in self._first:
                yield (event,)
            await self._deaf()
            yield (TextDelta("too late"),)
            yield (answered("too late"),)
        finally:
            await self._deaf()
            self.ended.set()

    async def _deaf(self) -> None:
        self.reached.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1


def _runs_at_work() -> list[asyncio.Task[Any]]:
    """The tasks that execute runs, abandoned ones included."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("run ")]


class DeafRig(Rig):
    """With a DeafRunner, which is let go when the test is over."""

    def __init__(self, *first: RunnerEvent, patience: float = PATIENCE) -> None:
        self.deaf = DeafRunner(*first)
        super().__init__(others={"deaf": self.deaf}, patience=patience)

    async def begin(self, run_id: str = "run-1", *, limit: float | None = None) -> None:
        await self.queue.enqueue(run(run_id, agent_id="deaf", timeout=limit))

    async def let_go(self) -> None:
        """The abandoned tasks come to their end, and have done nothing."""
        events, turns = dict(self.log.events), list(self.store.turns)
        tasks = _runs_at_work()
        self.deaf.let_go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert self.deaf.ended.is_set()
        assert not _runs_at_work()
        assert (self.log.events, self.store.turns) == (events, turns)


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[DeafRig]:
    rig = DeafRig(TextDelta("h"))
    yield rig
    rig.deaf.let_go.set()


async def is_aborted(rig: DeafRig) -> RunEvent:
    await rig.begin()
    await rig.deaf.reached.wait()
    assert await rig.queue.abort("run-1", "Stop it.")
    assert not await rig.queue.abort("run-1", "Stop it again.")
    return Aborted(f"Stop it. {ABANDONED}")


async def runs_out_of_time(rig: DeafRig) -> RunEvent:
    await rig.begin(limit=0.001)
    why = "The run took longer than the 0.001 s it may."
    return Failed("run_timeout", f"{why} {ABANDONED}")


async def is_there_when_the_gateway_stops(rig: DeafRig) -> RunEvent:
    await rig.begin()
    await rig.deaf.reached.wait()
    await rig.executor.drain(0)
    return Aborted(f"The Gateway is shutting down. {ABANDONED}")


@pytest.mark.parametrize("ending", [is_aborted, runs_out_of_time, is_there_when_the_gateway_stops])
async def test_a_run_whose_runner_does_not_stop_ends_without_it(
    rig: DeafRig,
    ending: Callable[[DeafRig], Awaitable[RunEvent]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        expected = await ending(rig)
        assert await rig.log.end_of("run-1") == expected

    assert [type(event) for event in rig.log.events["run-1"]] == [
        Started,
        TextDelta,
        type(expected),
    ]
    assert rig.deaf.cancelled
    assert await rig.queue.unfinished() == ()
    assert (rig.lanes.working, rig.lanes.waiting) == (0, 0)
    (record,) = caplog.records
    assert record.message == "a runner did not stop and was abandoned"
    assert (vars(record)["run"], vars(record)["runner"]) == ("run-1", "deaf")
    await rig.log.ended("run-1")
    await rig.let_go()
    assert rig.store.turns == []


async def test_the_next_run_of_the_session_begins_once_the_runner_is_abandoned(
    rig: DeafRig,
) -> None:
    await rig.begin()
    await rig.queue.enqueue(run("next"))
    await rig.deaf.reached.wait()
    await rig.queue.abort("run-1", "Stop it.")

    assert isinstance(await rig.log.end_of("next"), Finished)

    assert isinstance(rig.log.events["run-1"][-1], Aborted)
    await rig.let_go()
    assert [turn.run_id for turn in rig.store.turns] == ["next"]


async def test_an_answer_is_stored_though_its_runner_does_not_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = DeafRig(TextDelta("h"), answered("whole"))
    with caplog.at_level(logging.ERROR):
        await rig.begin()
        assert isinstance(await rig.log.end_of("run-1"), Finished)

    assert [message.text for message in rig.store.turns[0].messages] == ["hello", "whole"]
    assert (rig.lanes.working, len(rig.queue)) == (0, 0)
    assert [record.message for record in caplog.records] == [
        "a runner did not stop and was abandoned"
    ]
    await rig.let_go()


async def test_the_lane_stays_taken_until_the_abandoned_runners_answer_is_stored() -> None:
    rig = DeafRig(answered("whole"))
    rig.store.append_gate = gate = Gate()
    await rig.begin()
    await gate.reached.wait()
    rig.deaf.let_go.set()
    await rig.deaf.ended.wait()
    await asyncio.sleep(0)
    assert (rig.lanes.working, await rig.queue.abort("run-1", "too late")) == (1, False)

    gate.opened.set()

    assert isinstance(await rig.log.end_of("run-1"), Finished)
    assert rig.lanes.working == 0


async def test_a_run_that_is_aborted_while_its_runner_ends_is_not_stored() -> None:
    rig = DeafRig(answered("whole"), patience=60)
    await rig.begin()
    await rig.deaf.reached.wait()

    assert await rig.queue.abort("run-1", "Stop it.")
    rig.deaf.let_go.set()

    assert await rig.log.end_of("run-1") == Aborted("Stop it.")
    assert rig.store.turns == []


class TalkativeRunner(DeafRunner):
    """Goes on telling after it was cancelled."""

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        while True:
            try:
                self.reached.set()
                await self.let_go.wait()
            except asyncio.CancelledError:
                yield (TextDelta("and another thing"),)


async def test_a_runner_that_goes_on_telling_is_stopped_at_its_next_word() -> None:
    runner = TalkativeRunner()
    rig = Rig(others={"talkative": runner})
    await rig.queue.enqueue(run(agent_id="talkative"))
    await runner.reached.wait()

    assert await rig.queue.abort("run-1", "Stop it.")

    assert await rig.log.end_of("run-1") == Aborted("Stop it.")
    assert not any(isinstance(event, TextDelta) for event in rig.log.events["run-1"])
    assert await rig.is_at_rest("run-1")


async def test_draining_waits_for_a_turn_that_is_being_stored(rig: DeafRig) -> None:
    await rig.begin()
    rig.store.append_gate = gate = Gate()
    await rig.queue.enqueue(run("stored", session_key=SessionKey("main", "other")))
    await gate.reached.wait()
    draining = asyncio.create_task(rig.executor.drain(0))
    assert isinstance(await rig.log.end_of("run-1"), Aborted)
    assert not draining.done()

    gate.opened.set()
    await draining

    assert isinstance(rig.log.events["stored"][-1], Finished)
    assert [turn.run_id for turn in rig.store.turns] == ["stored"]
