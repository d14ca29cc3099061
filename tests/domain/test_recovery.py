"""A Run that the death of the Gateway cut off gets an end, and a true one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.domain.errors import EventsExpired, RunFailed, RunInterrupted, StoreFailed
from opensoul.domain.execution.recovery import note_of, recover
from opensoul.domain.messages import Message, Reasoning, Role, Text
from opensoul.domain.models.calls import ReasoningDelta, StopReason, TextDelta, Usage
from opensoul.domain.ports import OpenTurn, SessionCatalog, Turn
from opensoul.domain.runs.events import Aborted, EventBatch, Failed, Finished, RunEvent, Started
from opensoul.domain.runs.records import RunStatus, record_of
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import FakeClock, FakeRunEvents, FakeStore, assistant, run, user
from tests.fakes.novel import mixed


class Turns:
    """What recovery asks of a SessionCatalog."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = {turn.run_id: turn for turn in turns}

    async def turn(self, run_id: str) -> Turn | None:
        return self.turns.get(run_id)


def turn(*messages: Message, **changes: Any) -> Turn:
    values: dict[str, Any] = {
        "key": run().session_key,
        "session_id": "s",
        "run_id": "run-1",
        "at": 1.0,
        "messages": messages or (user("hello"), assistant("Hello there")),
        "model": "acme/one",
        "usage": Usage(3, 2),
        **changes,
    }
    return Turn(**values)


async def recover_all(
    log: FakeRunEvents, catalog: SessionCatalog, store: FakeStore | None = None
) -> int:
    lanes, clock = Lanes(LaneSettings), FakeClock()
    queue = LocalQueue(rows=log, lanes=lanes, clock=clock, steady=clock)
    return await recover(queue, log, store or FakeStore(), catalog, "me", clock)


async def recovered(
    *events: RunEvent, stored: Turn | None = None, log: FakeRunEvents | None = None
) -> list[RunEvent]:
    """What a Run that had told these events tells after recovery."""
    log = log or FakeRunEvents()
    log.left_by_an_earlier_process(record_of(run()), *events)
    catalog = cast(SessionCatalog, Turns(*([stored] if stored else [])))
    assert await recover_all(log, catalog) == 1
    told = list(log.events["run-1"])
    assert await recover_all(log, catalog) == 0
    assert log.events["run-1"] == told
    return told[len(events) :]


END = Finished(StopReason.STOP, Usage(3, 2), "acme/one")
BEGUN = (Started(0.0, 0.0), ReasoningDelta("hm"), TextDelta("Hel"), TextDelta("lo"))


async def test_an_event_of_a_new_kind_makes_no_difference() -> None:
    expected = [TextDelta(" there"), END]

    assert await recovered(*BEGUN, stored=turn()) == expected
    assert await recovered(*mixed(BEGUN), stored=turn()) == expected


@pytest.mark.parametrize("told", [(), BEGUN[:1], BEGUN])
async def test_a_run_that_was_going_on_is_interrupted(told: tuple[RunEvent, ...]) -> None:
    log = FakeRunEvents()
    (end,) = await recovered(*told, log=log)
    assert isinstance(end, Failed)
    assert end.code == RunInterrupted.code
    assert "stopped while the run was going on" in end.message
    assert log.record("run-1").status is RunStatus.INTERRUPTED


@pytest.mark.parametrize(
    ("told", "rest"),
    [
        ((), "Hello there"),
        (BEGUN[:1], "Hello there"),
        (BEGUN, " there"),
        ((*BEGUN, TextDelta(" there")), ""),
        ((TextDelta("Something else"),), ""),
    ],
)
async def test_a_run_whose_turn_is_stored_has_finished(
    told: tuple[RunEvent, ...], rest: str
) -> None:
    assert await recovered(*told, stored=turn()) == [*([TextDelta(rest)] if rest else []), END]


async def test_thoughts_are_no_part_of_the_answer() -> None:
    answer = Message(Role.ASSISTANT, (Reasoning("hm"), Text("Hello there")))
    assert await recovered(*BEGUN, stored=turn(user("hello"), answer)) == [TextDelta(" there"), END]


@pytest.mark.parametrize("messages", [(user("hello"),), (assistant(""),)])
async def test_a_turn_without_an_answer_adds_nothing(messages: tuple[Message, ...]) -> None:
    assert await recovered(stored=turn(*messages)) == [END]


@pytest.mark.parametrize(
    "end", [Failed(RunFailed.code, "No such key."), Aborted("Enough [of it].")]
)
async def test_a_turn_that_was_stored_without_an_answer_ends_as_it_says(
    end: Failed | Aborted,
) -> None:
    stored = turn(user("hello"), assistant("I send."), assistant(note_of(end)))
    assert await recovered(*BEGUN, stored=stored) == [end]


class DamagedSteps(FakeStore):
    """Has steps that cannot be read."""

    async def open_turn(self, run_id: str, attempt: int) -> OpenTurn | None:
        raise StoreFailed("a step cannot be read")

    async def open_turns(self) -> tuple[OpenTurn, ...]:
        return (OpenTurn(run().session_key, "s", "run-2", 1.0, (user("hello"),)),)

    async def end_turn(self, turn: OpenTurn, *, note: str, at: float) -> bool:
        raise StoreFailed("a step cannot be read")


async def test_damaged_steps_do_not_keep_the_gateway_from_starting() -> None:
    log = FakeRunEvents()
    log.left_by_an_earlier_process(record_of(run()))
    assert await recover_all(log, cast(SessionCatalog, Turns()), DamagedSteps()) == 1
    assert isinstance(log.events["run-1"][-1], Failed)


async def test_usage_that_nobody_counted_is_told_as_unknown() -> None:
    *_, end = await recovered(stored=turn(usage=None))
    assert end == Finished(StopReason.STOP, Usage(0, 0, estimated=True), "acme/one")


class ShortLog(FakeRunEvents):
    """Has forgotten how its Runs began."""

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        return self._gone()

    async def _gone(self) -> AsyncIterator[EventBatch]:
        raise EventsExpired("gone")
        yield


async def test_a_run_that_told_too_much_is_ended_all_the_same() -> None:
    assert await recovered(*BEGUN, stored=turn(), log=ShortLog()) == [END]


async def test_each_run_gets_its_own_end() -> None:
    log = FakeRunEvents()
    for n in range(3):
        log.left_by_an_earlier_process(record_of(run(f"run-{n}")))
    assert await recover_all(log, cast(SessionCatalog, Turns(turn()))) == 3
    assert [log.record(f"run-{n}").status for n in range(3)] == [
        RunStatus.INTERRUPTED,
        RunStatus.FINISHED,
        RunStatus.INTERRUPTED,
    ]
