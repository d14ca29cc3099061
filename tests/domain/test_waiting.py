"""A Run that waits for a signal holds nothing; a signal reaches a Run wherever it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.ports import RunContext
from opensoul.domain.runs.claims import ApprovalDecided, MessageInjected
from opensoul.domain.runs.events import (
    Aborted,
    Finished,
    Resumed,
    RunnerEvent,
    Started,
    Waiting,
)
from opensoul.domain.runs.records import RunStatus
from opensoul.domain.settings import LaneSettings
from tests.domain.cluster import Cluster
from tests.domain.rig import Rig
from tests.fakes.domain import Gate, answered, run, settings

ASKS = Waiting("Approve `rm`?", "a1", 2_000.0)
INJECTED = text_message(Role.USER, "and this")


async def waiting(rig: Rig, run_id: str = "run-1") -> None:
    """The Run waits, and answers when it goes on."""
    rig.runner.script(run_id, TextDelta("h"), ASKS)
    await rig.queue.enqueue(run(run_id))
    while rig.log.record(run_id).status is not RunStatus.WAITING:
        await rig.log.growth(run_id)
    rig.runner.script(run_id, answered())


async def test_a_waiting_run_holds_neither_lane_nor_slot_nor_task() -> None:
    rig = Rig(settings=settings(lanes=LaneSettings(max_concurrent=1)))
    await waiting(rig)

    assert (rig.lanes.working, rig.lanes.waiting, len(rig.executor)) == (0, 0, 0)
    assert rig.runner.working == 0
    assert isinstance(await rig.end_of(run("run-2")), Finished)
    assert [spec.id for spec in await rig.queue.unfinished()] == ["run-1"]


async def test_a_decision_lets_the_run_go_on() -> None:
    rig = Rig()
    await waiting(rig)

    assert await rig.queue.resolve("run-1", "a1", "allow")

    end = await rig.log.end_of("run-1")
    started, *rest = rig.log.events["run-1"]
    assert isinstance(started, Started)
    assert rest == [TextDelta("h"), ASKS, Resumed(2, 0, "A signal arrived."), end]
    assert rig.runner.contexts[-1].signals.take() == ApprovalDecided("a1", "allow")
    assert [turn.run_id for turn in rig.store.turns] == ["run-1"]
    assert await rig.is_at_rest("run-1")


async def test_a_message_lets_the_run_go_on_behind_the_others_of_its_session() -> None:
    rig, gate = Rig(), Gate()
    await waiting(rig)
    rig.runner.script("run-2", gate, answered())
    await rig.queue.enqueue(run("run-2"))
    await gate.reached.wait()

    assert await rig.queue.inject("run-1", INJECTED)
    assert (rig.lanes.working, rig.lanes.waiting) == (1, 1)

    gate.opened.set()
    await rig.log.end_of("run-1")
    assert [turn.run_id for turn in rig.store.turns] == ["run-2", "run-1"]
    assert rig.runner.contexts[-1].signals.take() == MessageInjected(INJECTED)


async def test_a_waiting_run_is_aborted_at_once() -> None:
    rig = Rig()
    await waiting(rig)

    assert await rig.queue.abort("run-1", "Stop it.")

    assert rig.log.events["run-1"][-1] == Aborted("Stop it.")
    assert not await rig.queue.abort("run-1", "again")
    assert not await rig.queue.resolve("run-1", "a1", "allow")
    assert await rig.is_at_rest("run-1")


async def test_a_signal_that_comes_before_the_run_waits_is_not_lost() -> None:
    rig, gate = Rig(), Gate()
    rig.runner.script("run-1", gate, ASKS)
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    await rig.queue.resolve("run-1", "a1", "deny")
    rig.runner.script("run-1", answered())

    gate.opened.set()

    assert isinstance(await rig.log.end_of("run-1"), Finished)
    assert rig.runner.contexts[-1].signals.take() == ApprovalDecided("a1", "deny")


class ListeningRunner:
    """Answers with the message that is injected while it works."""

    def __init__(self) -> None:
        self.listening = asyncio.Event()

    def history_budget(self, context: RunContext) -> int:
        return 0

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        self.listening.set()
        signal = await context.signals.next()
        assert isinstance(signal, MessageInjected)
        yield (TextDelta(signal.message.text), answered())


async def test_a_runner_gets_signals_while_it_works() -> None:
    runner = ListeningRunner()
    rig = Rig(others={"listening": runner})
    await rig.queue.enqueue(run(agent_id="listening"))
    await runner.listening.wait()

    assert await rig.queue.inject("run-1", INJECTED)

    assert isinstance(await rig.log.end_of("run-1"), Finished)
    assert TextDelta("and this") in rig.log.events["run-1"]


async def test_a_signal_for_a_run_that_is_not_there_is_told_so() -> None:
    rig = Rig()

    assert not await rig.queue.resolve("nobody", "a1", "allow")
    assert not await rig.queue.inject("nobody", INJECTED)


async def test_draining_leaves_a_waiting_run_alone() -> None:
    rig = Rig()
    await waiting(rig)

    await rig.executor.drain(0)

    assert rig.log.events["run-1"][-1] == ASKS


async def test_any_executor_goes_on_with_a_run_that_waited() -> None:
    cluster = Cluster()
    cluster.one.runner.script("run-1", ASKS)
    await cluster.queue.enqueue(run())
    while cluster.log.record("run-1").status is not RunStatus.WAITING:
        await cluster.log.growth("run-1")
    cluster.one.line.is_cut = True
    cluster.queue.withdraw("one")

    await cluster.queue.resolve("run-1", "a1", "allow")

    assert isinstance(await cluster.log.end_of("run-1"), Finished)
    assert cluster.log.leases["run-1"].owner == "two"


async def test_signals_that_a_dead_owner_got_reach_the_next_one() -> None:
    cluster, gate = Cluster(), Gate()
    cluster.one.runner.script("run-1", gate, answered())
    await cluster.queue.enqueue(run())
    await gate.reached.wait()
    await cluster.queue.inject("run-1", INJECTED)
    cluster.one.line.is_cut = True

    cluster.expire()

    assert isinstance(await cluster.log.end_of("run-1"), Finished)
    assert cluster.two.runner.contexts[-1].signals.take() == MessageInjected(INJECTED)
