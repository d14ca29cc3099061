"""However a Run ends: one terminal event, a free lane, and stored only if it finished."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import pytest

from opensoul.domain.errors import FailureKind, ModelFailed, StoreFailed
from opensoul.domain.models.calls import ReasoningDelta, TextDelta
from opensoul.domain.ports import RunContext
from opensoul.domain.runs.events import Aborted, Failed, Finished, RunEvent, RunnerEvent
from tests.domain.rig import Rig
from tests.fakes.domain import FakeRunner, Gate, agent, answered, run, settings

GENERIC = Failed("internal_error", "The run failed because of an internal error.")
STOPPED = Aborted("stop it")


class StubbornRunner:
    """Does not let itself be cancelled: answers all the same, or raises `failure`."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.gate = Gate()
        self._failure = failure

    def history_budget(self, context: RunContext) -> int:
        return 0

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        try:
            await self.gate.pass_through()
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure from None
        yield (answered(),)


async def finishes(rig: Rig) -> RunEvent:
    return await rig.end_of(run())


async def is_refused_by_the_model(rig: Rig) -> RunEvent:
    error = ModelFailed(FailureKind.RATE_LIMIT, "slow down", retry_after=7.0)
    rig.runner.script("run-1", TextDelta("h"), error)
    assert await rig.end_of(run()) == Failed(
        "model_failed", "slow down", FailureKind.RATE_LIMIT, retry_after=7.0
    )
    return rig.log.events["run-1"][-1]


async def meets_a_bug(rig: Rig) -> RunEvent:
    rig.runner.script("run-1", TextDelta("h"), ValueError("a secret detail"))
    assert await rig.end_of(run()) == GENERIC
    return GENERIC


async def meets_a_time_limit_of_the_runners_own(rig: Rig) -> RunEvent:
    rig.runner.script("run-1", TimeoutError("of its own"))
    assert await rig.end_of(run()) == GENERIC
    return GENERIC


async def has_a_runner_that_is_not_there(rig: Rig) -> RunEvent:
    rig.settings = settings([agent(runner="nope")])
    assert await rig.end_of(run()) == GENERIC
    rig.settings = settings()
    return GENERIC


async def ends_without_an_answer(rig: Rig) -> RunEvent:
    rig.runner.script("run-1", TextDelta("h"), ReasoningDelta("m"))
    expected = Failed("run_failed", "The agent ended without an answer.")
    assert await rig.end_of(run()) == expected
    return expected


async def takes_too_long(rig: Rig) -> RunEvent:
    rig.runner.script("run-1", TextDelta("h"), Gate(), answered())
    event = await rig.end_of(run(timeout=0.001))
    assert event == Failed("run_timeout", "The run took longer than the 0.001 s it may.")
    return event


async def has_no_time_limit(rig: Rig) -> RunEvent:
    rig.settings = settings([agent(timeout=None)])
    return await rig.end_of(run())


async def cannot_read_its_history(rig: Rig) -> RunEvent:
    rig.store.load_failure = StoreFailed("disk on fire")
    assert await rig.end_of(run()) == Failed("store_failed", "disk on fire")
    assert rig.runner.seen == []
    return rig.log.events["run-1"][-1]


async def knows_that_it_cannot_be_stored(rig: Rig) -> RunEvent:
    rig.store.write_failure = StoreFailed("disk full")
    assert await rig.end_of(run()) == Failed("store_failed", "disk full")
    assert (rig.runner.seen, rig.store.budgets) == ([], [])
    rig.store.write_failure = None
    return rig.log.events["run-1"][-1]


async def cannot_be_stored(rig: Rig) -> RunEvent:
    rig.store.append_failure = StoreFailed("disk full")
    assert await rig.end_of(run()) == Failed("store_failed", "disk full")
    return rig.log.events["run-1"][-1]


async def is_aborted_before_its_first_step(rig: Rig) -> RunEvent:
    await rig.queue.enqueue(run())
    assert await rig.queue.abort("run-1", "stop it")
    assert await rig.log.end_of("run-1") == STOPPED
    assert rig.log.events["run-1"] == [STOPPED]
    return STOPPED


async def is_aborted_in_the_queue(rig: Rig) -> RunEvent:
    gate = Gate()
    rig.runner.script("ahead", gate, ValueError("no answer"))
    await rig.queue.enqueue(run("ahead"))
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    assert await rig.queue.abort("run-1", "stop it")
    assert await rig.log.end_of("run-1") == STOPPED
    assert (rig.lanes.working, rig.lanes.waiting) == (1, 0)
    gate.opened.set()
    await rig.log.end_of("ahead")
    return STOPPED


async def is_aborted_while_history_is_read(rig: Rig) -> RunEvent:
    rig.store.load_gate = gate = Gate()
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    assert await rig.queue.abort("run-1", "stop it")
    assert await rig.log.end_of("run-1") == STOPPED
    return STOPPED


async def is_aborted_in_mid_stream(rig: Rig) -> RunEvent:
    gate = Gate()
    rig.runner.script("run-1", TextDelta("h"), gate, answered())
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    assert await rig.queue.abort("run-1", "stop it")
    assert not await rig.queue.abort("run-1", "stop it again")
    assert await rig.log.end_of("run-1") == STOPPED
    return STOPPED


async def is_aborted_while_it_is_stored(rig: Rig) -> RunEvent:
    rig.store.append_gate = gate = Gate()
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    assert not await rig.queue.abort("run-1", "too late")
    gate.opened.set()
    return await rig.log.end_of("run-1")


async def is_aborted_just_as_it_fails(rig: Rig) -> RunEvent:
    refused: list[bool] = []
    gate = Gate()
    rig.runner.script("run-1", gate, RuntimeError("broken"))
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    gate.opened.set()
    # The Run wakes and fails in the next round of the event loop. This comes right behind it,
    # before anybody has noticed.
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: refused.append(rig.executor.abort("run-1", "too late")))
    assert await rig.log.end_of("run-1") == GENERIC
    assert refused == [False]
    return GENERIC


async def is_cancelled_from_outside(rig: Rig) -> RunEvent:
    rig.runner.script("run-1", gate := Gate(), answered())
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "run run-1"]
    task.cancel()
    expected = Aborted("The run was cancelled.")
    assert await rig.log.end_of("run-1") == expected
    return expected


ENDINGS: list[Callable[[Rig], Awaitable[RunEvent]]] = [
    finishes,
    has_no_time_limit,
    is_refused_by_the_model,
    meets_a_bug,
    meets_a_time_limit_of_the_runners_own,
    has_a_runner_that_is_not_there,
    ends_without_an_answer,
    takes_too_long,
    cannot_read_its_history,
    knows_that_it_cannot_be_stored,
    cannot_be_stored,
    is_aborted_before_its_first_step,
    is_aborted_in_the_queue,
    is_aborted_while_history_is_read,
    is_aborted_in_mid_stream,
    is_aborted_while_it_is_stored,
    is_aborted_just_as_it_fails,
    is_cancelled_from_outside,
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
async def test_a_run_ends_once_and_leaves_its_lane_whatever_happens(
    ending: Callable[[Rig], Awaitable[RunEvent]],
) -> None:
    rig = Rig()

    event = await ending(rig)

    stored = [turn.run_id for turn in rig.store.turns]
    assert stored == (["run-1"] if isinstance(event, Finished) else [])
    assert not await rig.queue.abort("run-1", "over")
    assert await rig.is_at_rest("run-1")


async def test_a_bug_is_logged_in_full_and_told_in_general(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bug = ValueError("a secret detail")
    with caplog.at_level(logging.ERROR):
        await Rig(FakeRunner(bug)).end_of(run())

    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is bug
    assert vars(record)["run"] == "run-1"


async def test_an_expected_failure_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        await Rig(FakeRunner(ModelFailed(FailureKind.AUTH, "no"))).end_of(run())

    assert caplog.records == []


@pytest.mark.parametrize(
    "failure", [None, ModelFailed(FailureKind.TIMEOUT, "cancelled"), ValueError("broken")]
)
async def test_an_aborted_run_is_told_as_aborted_whatever_its_runner_makes_of_it(
    failure: Exception | None,
) -> None:
    runner = StubbornRunner(failure)
    rig = Rig(others={"stubborn": runner})
    await rig.queue.enqueue(run(agent_id="stubborn"))
    await runner.gate.reached.wait()

    assert await rig.queue.abort("run-1", "stop it")
    assert await rig.log.end_of("run-1") == STOPPED
    assert rig.store.turns == []
    assert await rig.is_at_rest("run-1")


async def test_an_unknown_run_cannot_be_aborted() -> None:
    assert not await Rig().queue.abort("run-1", "stop it")


class TidyRunner:
    """Answers, and takes its time to clear up when its stream is closed."""

    def __init__(self) -> None:
        self.clearing_up = Gate()

    def history_budget(self, context: RunContext) -> int:
        return 0

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        try:
            yield (answered(),)
        finally:
            await self.clearing_up.pass_through()


async def test_the_runner_is_closed_before_its_answer_is_stored_and_its_lane_is_free() -> None:
    runner = TidyRunner()
    rig = Rig(others={"tidy": runner})
    await rig.queue.enqueue(run(agent_id="tidy"))
    await runner.clearing_up.reached.wait()
    assert (rig.lanes.working, rig.store.turns) == (1, [])

    runner.clearing_up.opened.set()
    assert isinstance(await rig.log.end_of("run-1"), Finished)
    assert await rig.is_at_rest("run-1")


async def test_what_a_runner_tells_with_its_answer_is_told_before_the_end() -> None:
    rig = Rig(FakeRunner((TextDelta("h"), TextDelta("h")), (ReasoningDelta("m"), answered())))

    end = await rig.end_of(run())

    assert isinstance(end, Finished)
    _, *told = rig.log.events["run-1"]
    assert told == [TextDelta("h"), TextDelta("h"), ReasoningDelta("m"), end]
    assert await rig.is_at_rest("run-1")


async def test_the_runner_is_stopped_once_it_has_answered() -> None:
    rig = Rig(FakeRunner(answered(), Gate(), TextDelta("never told")))

    assert isinstance(await rig.end_of(run()), Finished)
    assert rig.runner.working == 0
