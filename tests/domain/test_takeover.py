"""What executes a Run dies, or is paused: another executor goes on, and nothing is done twice."""

from __future__ import annotations

import asyncio
import time

import pytest

from opensoul.domain.errors import RunInterrupted
from opensoul.domain.execution.recovery import MOST_LOST, Appended, Ending, take_over
from opensoul.domain.models.calls import ReasoningDelta, StopReason, TextDelta, Usage
from opensoul.domain.ports import Turn
from opensoul.domain.runs.claims import Claim
from opensoul.domain.runs.events import (
    TERMINAL,
    Aborted,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    Started,
)
from opensoul.domain.runs.spec import OnLeave, RunSpec
from tests.domain.cluster import LEASE, Cluster
from tests.fakes.domain import Gate, answered, assistant, run, user

DIED = "What executed the run died."
END = Finished(StopReason.STOP, Usage(5, 2), "acme/one")
GOES_ON = run(on_leave=OnLeave.CONTINUE)


async def begun(cluster: Cluster, spec: RunSpec, *said: TextDelta | ReasoningDelta) -> Gate:
    """The Run is at work in process `one` and has said that; the gate lets it go on."""
    gate = Gate()
    cluster.one.runner.script(spec.id, *said, gate, TextDelta("late"), answered("one"))
    await cluster.queue.enqueue(spec)
    await gate.reached.wait()
    return gate


def events_of(cluster: Cluster, run_id: str = "run-1") -> list[RunEvent]:
    """All but the times."""
    return [event for event in cluster.log.events[run_id] if not isinstance(event, Started)]


async def tasks_have_ended(run_id: str) -> None:
    """Every attempt at the Run has come to an end, and that is noticed."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == f"run {run_id}"]
    if tasks:
        await asyncio.wait(tasks)


async def test_a_run_goes_on_in_another_process_with_the_next_attempt() -> None:
    cluster = Cluster()
    await begun(cluster, GOES_ON, TextDelta("h"))
    cluster.one.line.is_cut = True

    cluster.expire()

    assert await cluster.log.end_of("run-1") == END
    assert events_of(cluster) == [TextDelta("h"), Resumed(2, 2, DIED), END]
    assert [turn.messages for turn in cluster.store.turns] == [(user("hello"), assistant("two"))]
    started = [event for event in cluster.log.events["run-1"] if isinstance(event, Started)]
    assert len(started) == 1


async def test_a_zombie_writes_nothing_and_stops() -> None:
    cluster = Cluster()
    gate = await begun(cluster, GOES_ON, TextDelta("h"))
    cluster.expire()
    assert await cluster.log.end_of("run-1") == END

    gate.opened.set()
    await tasks_have_ended("run-1")

    assert len(cluster.one.executor) == 0
    assert events_of(cluster) == [TextDelta("h"), Resumed(2, 2, DIED), END]
    assert [turn.messages[-1] for turn in cluster.store.turns] == [assistant("two")]
    assert cluster.one.runner.working == 0


async def test_a_zombie_that_has_only_to_store_its_answer_does_not() -> None:
    cluster, gate = Cluster(), Gate()
    cluster.one.runner.script("run-1", gate, answered("one"))
    cluster.two.runner.script("run-1", two := Gate(), answered("two"))
    await cluster.queue.enqueue(GOES_ON)
    await gate.reached.wait()
    cluster.expire()
    await two.reached.wait()

    gate.opened.set()
    two.opened.set()
    assert await cluster.log.end_of("run-1") == END
    await tasks_have_ended("run-1")
    assert [turn.messages[-1] for turn in cluster.store.turns] == [assistant("two")]


async def test_a_turn_that_was_stored_before_the_death_is_told_as_finished() -> None:
    cluster = Cluster()
    await begun(cluster, GOES_ON, TextDelta("on"))
    cluster.one.line.is_cut = True
    cluster.store.turns.append(stored("one"))

    cluster.expire()

    assert await cluster.log.end_of("run-1") == END
    assert events_of(cluster) == [TextDelta("on"), TextDelta("e"), END]
    assert cluster.two.runner.seen == []


async def test_a_completion_that_has_sent_text_fails_truthfully() -> None:
    cluster = Cluster()
    await begun(cluster, run(), TextDelta("h"))
    cluster.one.line.is_cut = True

    cluster.expire()

    end = await cluster.log.end_of("run-1")
    assert isinstance(end, Failed)
    assert end.code == RunInterrupted.code
    assert cluster.two.runner.seen == []
    assert cluster.store.turns == []


async def test_the_next_turn_of_the_session_waits_for_the_new_owner() -> None:
    cluster, gate = Cluster(), Gate()
    await begun(cluster, GOES_ON)
    cluster.two.runner.script("run-1", gate, answered("two"))
    await cluster.queue.enqueue(run("run-2"))
    cluster.one.line.is_cut = True

    cluster.expire()
    await gate.reached.wait()
    assert cluster.log.events["run-2"] == []

    gate.opened.set()
    await cluster.log.end_of("run-2")
    assert [turn.run_id for turn in cluster.store.turns] == ["run-1", "run-2"]


async def test_a_dead_owner_gets_no_further_runs() -> None:
    cluster = Cluster()
    await begun(cluster, GOES_ON)
    cluster.one.line.is_cut = True
    cluster.expire()
    await cluster.log.end_of("run-1")

    for number in range(2, 6):
        await cluster.queue.enqueue(run(f"run-{number}"))
        assert await cluster.log.end_of(f"run-{number}") == END


async def test_a_run_whose_dead_owner_was_asked_to_stop_it_is_aborted() -> None:
    cluster = Cluster()
    await begun(cluster, GOES_ON)
    cluster.one.line.is_cut = True
    assert await cluster.queue.abort("run-1", "Stop it.")

    cluster.expire()

    assert await cluster.log.end_of("run-1") == Aborted("Stop it.")


async def test_a_run_whose_owners_all_died_waits_for_one_that_serves() -> None:
    cluster = Cluster()
    await begun(cluster, GOES_ON)
    cluster.queue.withdraw("two")
    cluster.one.line.is_cut = True
    cluster.expire()
    assert not any(isinstance(event, TERMINAL) for event in cluster.log.events["run-1"])

    cluster.queue.serve("two", cluster.two.executor)

    assert await cluster.log.end_of("run-1") == END
    assert Resumed(2, 1, DIED) in cluster.log.events["run-1"]


async def test_an_owner_that_was_only_paused_takes_its_run_again() -> None:
    cluster = Cluster()
    cluster.queue.withdraw("two")
    gate = await begun(cluster, GOES_ON)
    cluster.expire()
    cluster.one.runner.script("run-1", answered("again"))

    gate.opened.set()

    assert await cluster.log.end_of("run-1") == END
    assert events_of(cluster) == [Resumed(2, 1, DIED), END]
    assert [turn.messages[-1] for turn in cluster.store.turns] == [assistant("again")]
    executor = cluster.one.executor
    assert (executor.lease_losses, executor.take_overs) == (1, 1)


async def test_a_run_that_is_longer_than_its_lease_keeps_it() -> None:
    cluster = Cluster(steady=time.monotonic, lease=0.05)
    renewed = 0
    enough = asyncio.Event()

    def count() -> None:
        nonlocal renewed
        renewed += 1
        if renewed == 10:
            enough.set()

    cluster.queue.on_renew = count
    gate = await begun(cluster, GOES_ON)
    await enough.wait()
    gate.opened.set()

    assert await cluster.log.end_of("run-1") == END
    assert cluster.log.leases["run-1"].attempt == 1


async def test_the_queue_itself_notices_a_lease_that_has_expired() -> None:
    cluster = Cluster(steady=time.monotonic, lease=0.05)
    await begun(cluster, GOES_ON)
    cluster.one.line.is_cut = True

    assert await cluster.log.end_of("run-1") == END
    assert cluster.log.leases["run-1"].owner == "two"


def stored(text: str) -> Turn:
    messages = (user("hello"), assistant(text))
    return Turn(GOES_ON.session_key, "s", "run-1", 1.0, messages, "acme/one", Usage(5, 2))


INTERRUPTED = "interrupted"


@pytest.mark.parametrize(
    ("spec", "lost", "turn", "told", "outcome"),
    [
        (GOES_ON, 1, None, "", "again"),
        (GOES_ON, 1, None, "he", "again"),
        (run(), 1, None, "", "again"),
        (run(), 1, None, "he", INTERRUPTED),
        (run(streamed=False), 1, None, "he", "again"),
        (GOES_ON, MOST_LOST, None, "", INTERRUPTED),
        (run(messages=(), on_leave=OnLeave.CONTINUE), 1, None, "", INTERRUPTED),
        (run(), 1, stored("hello"), "he", "llo"),
        (GOES_ON, MOST_LOST, stored("hello"), "hello", ""),
        (GOES_ON, 1, stored("hello"), "other", ""),
        (GOES_ON, 1, stored("hello"), None, ""),
    ],
)
def test_the_rules_of_taking_over(
    spec: RunSpec, lost: int, turn: Turn | None, told: str | None, outcome: str
) -> None:
    claim = Claim(spec, "two", 2, LEASE, lost=lost, taken_over=True)

    decided = take_over(claim, turn=turn, appended=Appended(told, any_text=told != "", void=7))

    if outcome == "again":
        assert decided == Resumed(2, 7, DIED)
    elif outcome == INTERRUPTED:
        assert isinstance(decided, Ending)
        assert isinstance(decided.event, Failed)
        assert decided.event.code == RunInterrupted.code
    else:
        assert decided == Ending(END, outcome)
