"""What a Run goes through, and that its session remembers what it should."""

from __future__ import annotations

import asyncio
import logging

import pytest

from opensoul.domain.errors import SessionBusy, ShuttingDown, UnknownRun
from opensoul.domain.messages import Message
from opensoul.domain.models.calls import ReasoningDelta, StopReason, TextDelta, Usage
from opensoul.domain.ports import Transcript, Turn
from opensoul.domain.runs.events import TERMINAL, Aborted, Finished, RunEvent, Started
from opensoul.domain.runs.spec import CONTENT
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.policy import ResetRule, SessionSettings
from opensoul.domain.settings import LaneSettings
from tests.domain.rig import Rig
from tests.fakes.domain import (
    FakeRunEvents,
    FakeRunner,
    Gate,
    answered,
    assistant,
    run,
    settings,
    user,
)


async def test_a_run_tells_what_happens_in_order() -> None:
    rig = Rig(FakeRunner(ReasoningDelta("hm"), TextDelta("h"), TextDelta("i"), answered()))

    await rig.end_of(run())

    started, *rest = rig.log.events["run-1"]
    assert isinstance(started, Started)
    assert started.queued >= 0
    assert started.history >= 0
    assert rest == [
        ReasoningDelta("hm"),
        TextDelta("h"),
        TextDelta("i"),
        Finished(StopReason.STOP, Usage(5, 2), "acme/one"),
    ]


async def test_a_finished_turn_is_stored_before_it_is_told() -> None:
    rig = Rig()
    rig.store.append_gate = gate = Gate()
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    assert len(rig.log.events["run-1"]) == 1

    gate.opened.set()
    await rig.log.end_of("run-1")
    assert rig.store.turns == [
        Turn(
            key=SessionKey("main", "talk"),
            session_id="id-1",
            run_id="run-1",
            at=1_000.0,
            messages=(user("hello"), assistant("hi")),
            model="acme/one",
            usage=Usage(5, 2),
            stop=StopReason.STOP,
        )
    ]


async def test_the_second_turn_knows_the_first() -> None:
    rig = Rig()
    await rig.end_of(run("run-1"))
    await rig.end_of(run("run-2", messages=(user("again"),)))

    _, transcript = rig.runner.seen[1]
    assert transcript == Transcript((user("hello"), assistant("hi")))
    assert [turn.session_id for turn in rig.store.turns] == ["id-1", "id-1"]


async def test_no_more_history_is_read_than_the_runner_can_use() -> None:
    rig = Rig(FakeRunner(answered(), budget=17))
    await rig.end_of(run("run-1"))
    await rig.end_of(run("run-2"))

    assert rig.store.budgets == [17, 17]
    assert rig.runner.seen[1][1] == Transcript((user("hello"), assistant("hi")))


RESENT = (user("hello"), assistant("hi"), user("and?"))


async def test_of_a_resent_conversation_only_the_new_is_run_and_stored() -> None:
    rig = Rig()
    await rig.end_of(run("run-1"))
    await rig.end_of(run("run-2", messages=RESENT))

    ran, transcript = rig.runner.seen[1]
    assert ran.messages == (user("and?"),)
    assert transcript.messages == RESENT[:2]
    assert rig.runner.measured[1].messages == (user("and?"),)
    assert rig.store.turns[1].messages == (user("and?"), assistant("hi"))


async def test_in_a_new_session_the_whole_conversation_is_run_and_stored() -> None:
    rig = Rig()
    await rig.end_of(run(messages=RESENT))

    assert rig.runner.seen[0][0].messages == RESENT
    assert rig.store.turns[0].messages == (*RESENT, assistant("hi"))


async def test_a_stale_session_starts_a_new_transcript_and_keeps_the_old() -> None:
    rig = Rig(settings=settings(sessions=SessionSettings(ResetRule(idle=60.0))))
    await rig.end_of(run("run-1"))
    rig.clock.advance(61)
    await rig.end_of(run("run-2", messages=RESENT))

    ran, transcript = rig.runner.seen[1]
    assert ran.messages == RESENT
    assert transcript == Transcript()
    assert [turn.session_id for turn in rig.store.turns] == ["id-1", "id-2"]


async def test_a_one_off_session_is_stored_but_not_looked_up() -> None:
    rig = Rig()
    await rig.end_of(run(one_off=True, messages=RESENT))

    assert rig.store.budgets == []
    assert rig.store.turns[0].one_off
    assert rig.store.turns[0].messages == (*RESENT, assistant("hi"))


async def test_every_message_of_an_answer_is_stored() -> None:
    said: tuple[Message, ...] = (assistant("let me see"), assistant("42"))
    answer = answered()
    rig = Rig(FakeRunner(type(answer)(said, answer.stop, answer.usage, answer.model)))
    await rig.end_of(run())

    assert rig.store.turns[0].messages == (user("hello"), *said)


async def test_runs_of_one_session_follow_one_another_in_their_order() -> None:
    gate, rig = Gate(), Rig()
    rig.runner.script("run-1", gate, answered("first"))
    for run_id in ("run-1", "run-2", "run-3"):
        await rig.queue.enqueue(run(run_id))
    await gate.reached.wait()
    assert rig.runner.working == 1
    assert len(rig.queue) == 3

    gate.opened.set()
    await rig.log.end_of("run-3")
    assert [turn.run_id for turn in rig.store.turns] == ["run-1", "run-2", "run-3"]
    assert rig.runner.seen[1][1].messages == (user("hello"), assistant("first"))
    assert await rig.is_at_rest("run-1", "run-2", "run-3")


async def test_runs_of_different_sessions_work_side_by_side() -> None:
    first, second, rig = Gate(), Gate(), Rig()
    rig.runner.script("run-1", first, answered())
    rig.runner.script("run-2", second, answered())
    await rig.queue.enqueue(run("run-1"))
    await rig.queue.enqueue(run("run-2", session_key=SessionKey("beta", "talk")))

    await first.reached.wait()
    await second.reached.wait()
    for gate in (first, second):
        gate.opened.set()
    for run_id in ("run-1", "run-2"):
        assert isinstance(await rig.log.end_of(run_id), Finished)


async def test_a_refused_run_leaves_nothing_behind() -> None:
    gate = Gate()
    rig = Rig(FakeRunner(gate, answered()), settings=settings(lanes=LaneSettings(max_waiting=0)))
    await rig.queue.enqueue(run("run-1"))
    with pytest.raises(SessionBusy):
        await rig.queue.enqueue(run("run-2"))

    assert "run-2" not in rig.log.events
    assert not await rig.queue.abort("run-2", "stop")
    gate.opened.set()
    await rig.log.end_of("run-1")
    assert await rig.is_at_rest("run-1")


async def test_a_run_that_cannot_be_logged_does_not_keep_its_lane() -> None:
    rig = Rig()
    rig.log.open_failure = ValueError("has a log already")
    with pytest.raises(ValueError, match="has a log already"):
        await rig.queue.enqueue(run())

    rig.log.open_failure = None
    assert await rig.is_at_rest()


# Shutting down


async def test_draining_lets_those_at_work_and_in_the_queue_finish() -> None:
    gate = Gate()
    rig = Rig(FakeRunner(gate, answered()))
    await rig.queue.enqueue(run("run-1"))
    await rig.queue.enqueue(run("run-2"))
    await gate.reached.wait()
    draining = asyncio.create_task(rig.executor.drain(60))
    await asyncio.sleep(0)
    assert not draining.done()

    gate.opened.set()
    await draining
    assert [turn.run_id for turn in rig.store.turns] == ["run-1", "run-2"]
    assert len(rig.queue) == 0


async def test_when_the_grace_is_over_the_rest_is_aborted_and_told() -> None:
    gate = Gate()
    rig = Rig(FakeRunner(gate, answered()))
    for run_id in ("run-1", "run-2"):
        await rig.queue.enqueue(run(run_id))
    await gate.reached.wait()

    await rig.executor.drain(0)
    for run_id in ("run-1", "run-2"):
        assert rig.log.events[run_id][-1] == Aborted("The Gateway is shutting down.")
    assert (rig.lanes.working, rig.runner.working, rig.store.turns) == (0, 0, [])


async def test_draining_waits_for_a_turn_that_is_being_stored() -> None:
    rig = Rig()
    rig.store.append_gate = gate = Gate()
    await rig.queue.enqueue(run())
    await gate.reached.wait()
    draining = asyncio.create_task(rig.executor.drain(0))
    again = asyncio.create_task(rig.executor.drain(0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not draining.done()

    gate.opened.set()
    await asyncio.gather(draining, again)
    assert isinstance(rig.log.events["run-1"][-1], Finished)


async def test_who_drains_takes_no_more_runs() -> None:
    rig = Rig()
    await rig.executor.drain(60)

    with pytest.raises(ShuttingDown):
        await rig.queue.enqueue(run())
    assert rig.log.events == {}
    assert rig.lanes.working == 0


class ForgetfulRunEvents(FakeRunEvents):
    """Cannot keep a terminal event."""

    def put(self, run_id: str, *events: RunEvent) -> int:
        if any(isinstance(event, TERMINAL) for event in events):
            raise UnknownRun("forgotten")
        return super().put(run_id, *events)


async def test_a_log_that_fails_is_reported_and_holds_up_neither_lane_nor_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(log=ForgetfulRunEvents())
    await rig.queue.enqueue(run())

    await rig.executor.drain(60)
    (record,) = caplog.records
    assert record.message == "the end of a run could not be kept"
    assert "forgotten" in str(record.exc_info)
    assert (rig.lanes.working, len(rig.queue)) == (0, 0)


@pytest.mark.parametrize(
    ("disabled", "level", "written"),
    [
        (False, logging.INFO, [["user: hello", "assistant: hi"]]),
        (True, logging.INFO, []),
        (False, logging.WARNING, []),
    ],
)
async def test_what_is_said_is_logged_only_where_that_is_switched_on(
    disabled: bool,
    level: int,
    written: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(level, CONTENT):
        monkeypatch.setattr(logging.getLogger(CONTENT), "disabled", disabled)
        await Rig().end_of(run())

    assert [vars(record)["messages"] for record in caplog.records] == written
