"""The Run of a command: beside the other Runs of its Session, without a part in its transcript."""

from __future__ import annotations

import asyncio

import pytest

from opensoul.domain.chat_commands import ChatCommand, CommandName
from opensoul.domain.models import StopReason, TextDelta, Usage
from opensoul.domain.runs import Aborted, Answered, Finished, OnLeave, RunSpec, Started
from opensoul.domain.settings import LaneSettings
from tests.domain.rig import Rig
from tests.fakes.domain import FakeRunner, Gate, answered, run, settings, user

DONE = (TextDelta("Done."), Answered((), StopReason.STOP, Usage(0, 0), ""))


def command(run_id: str, name: CommandName = CommandName.STATUS) -> RunSpec:
    message = user(f"/{name}")
    return run(run_id, messages=(message,), command=ChatCommand(name), on_leave=OnLeave.CONTINUE)


@pytest.fixture
def rig() -> Rig:
    """One Run at a time in all Sessions together, and none may wait."""
    lanes = LaneSettings(max_concurrent=1, max_waiting=0, max_queued=0)
    rig = Rig(settings=settings(lanes=lanes), others={"command": FakeRunner(*DONE)})
    rig.log.kept = {}
    return rig


async def test_a_command_waits_for_no_run_and_takes_no_slot(rig: Rig) -> None:
    gate = Gate()
    rig.runner.script("slow", gate, answered())
    await rig.queue.enqueue(run("slow", on_leave=OnLeave.CONTINUE))
    await gate.reached.wait()

    for number in range(3):
        assert isinstance(await rig.end_of(command(f"c{number}")), Finished)

    gate.opened.set()
    await rig.log.end_of("slow")
    assert [turn.run_id for turn in rig.store.turns] == ["slow"]
    assert await rig.is_at_rest("slow", "c0", "c1", "c2")


async def test_the_run_of_a_command_has_the_events_of_any_run_and_ends_with_its_process(
    rig: Rig,
) -> None:
    await rig.queue.enqueue(command("c"), once=True)
    await rig.queue.enqueue(run("r", on_leave=OnLeave.CONTINUE), once=True)
    await asyncio.gather(*(rig.log.end_of(run_id) for run_id in ("c", "r")))

    kinds = [type(event) for event in rig.log.events["c"]]
    assert kinds == [Started, TextDelta, Finished]
    assert rig.log.events["c"][-1] == Finished(StopReason.STOP, Usage(0, 0), "")
    assert set(rig.log.kept or ()) == {"r"}


async def test_a_store_that_is_full_keeps_no_command_from_its_answer(rig: Rig) -> None:
    rig.store.load_failure = rig.store.append_failure = RuntimeError("the disk is full")
    assert isinstance(await rig.end_of(command("c")), Finished)


async def test_a_change_of_the_session_stops_its_runs_but_no_commands() -> None:
    gates = {name: Gate() for name in ("slow", "other")}
    rig = Rig(others={"command": FakeRunner(gates["other"], *DONE)})
    rig.runner.script("slow", gates["slow"], answered())
    await rig.queue.enqueue(run("slow"))
    await rig.queue.enqueue(command("other", CommandName.NEW))
    for gate in gates.values():
        await gate.reached.wait()
    changed = asyncio.Event()

    async def change() -> None:
        changed.set()

    await rig.queue.exclusive(run().session_key, change, patience=10, stop="It starts over.")

    assert changed.is_set()
    assert await rig.log.end_of("slow") == Aborted("It starts over.")
    gates["other"].opened.set()
    assert isinstance(await rig.log.end_of("other"), Finished)


async def test_a_command_can_be_stopped_by_its_id() -> None:
    gate = Gate()
    rig = Rig(others={"command": FakeRunner(gate, *DONE)})
    await rig.queue.enqueue(command("c"))
    await gate.reached.wait()
    assert await rig.queue.abort("c", "Enough.")
    assert await rig.log.end_of("c") == Aborted("Enough.")
