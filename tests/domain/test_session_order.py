"""Runs and changes of one Session: each sees what came before it, and no turn is lost."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from opensoul.domain.errors import InvalidRequest, SessionBusy
from opensoul.domain.runs.events import Aborted, Finished
from opensoul.domain.sessions.changes import Expected
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import LaneSettings
from tests.domain.slow_store import ADMIN, TALK, SlowOffice
from tests.fakes.domain import Gate, answered, run, settings, user

MORE: dict[str, tuple[Any, ...]] = {"compact": (2,), "inject": ("by the way",)}
LEFT = {
    "compact": ["hello", "hi"],
    "reset": [],
    "delete": [],
    "inject": ["hello", "hi", "hello", "hi", "by the way"],
}
"""What each change makes of two turns."""


@pytest_asyncio.fixture
async def office() -> AsyncIterator[SlowOffice]:
    office = SlowOffice()
    await office.slow.open()
    for number in (1, 2):
        assert isinstance(await office.end_of(run(f"earlier-{number}")), Finished)
    yield office
    await office.slow.close()


def begin(office: SlowOffice, change: str) -> asyncio.Task[Any]:
    work = getattr(office.session_service, change)(ADMIN, TALK, *MORE.get(change, ()))
    return asyncio.create_task(work)


@pytest.mark.parametrize("change", LEFT)
async def test_a_run_that_comes_during_a_change_begins_behind_it(
    office: SlowOffice, change: str
) -> None:
    method = "append" if change == "inject" else change
    office.slow.gates[method] = gate = Gate()
    changing = begin(office, change)
    await gate.reached.wait()
    loads = office.slow.loads
    await office.queue.enqueue(run("late", messages=(user("and now?"),)))
    await asyncio.sleep(0)
    assert office.slow.loads == loads  # It has not read what the change is about to replace.

    gate.opened.set()
    await changing

    assert isinstance(await office.log.end_of("late"), Finished)
    assert await office.texts() == [*LEFT[change], "and now?", "hi"]


@pytest.mark.parametrize("change", LEFT)
async def test_a_change_whose_caller_has_left_is_finished_before_the_next_run(
    office: SlowOffice, change: str
) -> None:
    method = "append" if change == "inject" else change
    office.slow.gates[method] = gate = Gate()
    changing = begin(office, change)
    await gate.reached.wait()
    await office.queue.enqueue(run("late", messages=(user("and now?"),)))
    changing.cancel()
    await asyncio.gather(changing, return_exceptions=True)
    loads = office.slow.loads

    gate.opened.set()

    assert isinstance(await office.log.end_of("late"), Finished)
    assert office.slow.loads == loads + 1
    assert await office.texts() == [*LEFT[change], "and now?", "hi"]


async def test_a_change_that_fails_after_its_caller_has_left_is_no_lost_exception(
    office: SlowOffice,
) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    office.slow.gates["compact"] = gate = Gate()
    changing = begin(office, "compact")
    await gate.reached.wait()
    await office.slow.delete(TALK)  # What compacting then finds is an unknown session.
    changing.cancel()
    await asyncio.gather(changing, return_exceptions=True)

    gate.opened.set()
    await office.queue.enqueue(run("late"))
    await office.log.end_of("late")
    del changing  # Its traceback refers to the task.
    gc.collect()

    assert reports == []


@pytest.mark.parametrize("change", ["compact", "inject"])
async def test_a_change_waits_for_the_runs_before_it(office: SlowOffice, change: str) -> None:
    office.runner.script("ahead", gate := Gate(), answered("done"))
    await office.queue.enqueue(run("ahead", messages=(user("go"),)))
    await gate.reached.wait()
    changing = begin(office, change)
    await asyncio.sleep(0)
    await office.queue.enqueue(run("behind", messages=(user("again"),)))

    gate.opened.set()
    await changing

    assert isinstance(await office.log.end_of("behind"), Finished)
    before = ["go", "done"]
    if change == "inject":
        before = ["hello", "hi", "hello", "hi", *before, "by the way"]
    assert await office.texts() == [*before, "again", "hi"]


@pytest.mark.parametrize("change", ["reset", "delete"])
async def test_a_change_stops_the_runs_before_it_but_not_one_that_is_being_stored(
    office: SlowOffice, change: str
) -> None:
    told: list[list[str]] = []
    office.slow.gates["append"] = gate = Gate()
    await office.queue.enqueue(run("stored"))
    await office.queue.enqueue(run("stopped"))
    await gate.reached.wait()
    changing = begin(office, change)
    assert isinstance(await office.log.end_of("stopped"), Aborted)
    told.append(await office.texts())

    gate.opened.set()
    await changing

    assert isinstance(await office.log.end_of("stored"), Finished)
    assert told == [["hello", "hi"] * 2]
    assert await office.texts() == []
    if change == "reset":
        _, old = await office.slow.transcripts(TALK, 9)
        assert await office.texts(old.session_id) == ["hello", "hi"] * 3


@pytest.mark.parametrize("change", ["compact", "inject"])
async def test_a_change_that_waits_too_long_is_refused_and_nothing_is_changed(
    office: SlowOffice, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opensoul.domain.services.sessions._PATIENCE", 0.01)
    office.runner.script("ahead", gate := Gate(), answered("done"))
    await office.queue.enqueue(run("ahead"))
    await gate.reached.wait()

    with pytest.raises(SessionBusy, match="still active"):
        await begin(office, change)

    gate.opened.set()
    assert isinstance(await office.log.end_of("ahead"), Finished)
    assert await office.texts() == [*["hello", "hi"] * 2, "hello", "done"]
    assert isinstance(await office.end_of(run("next")), Finished)


async def test_a_change_whose_caller_leaves_while_it_waits_is_not_made(office: SlowOffice) -> None:
    office.runner.script("ahead", gate := Gate(), answered("done"))
    await office.queue.enqueue(run("ahead"))
    await gate.reached.wait()
    changing = begin(office, "compact")
    await asyncio.sleep(0)
    changing.cancel()
    await asyncio.gather(changing, return_exceptions=True)

    gate.opened.set()

    assert isinstance(await office.log.end_of("ahead"), Finished)
    assert len(await office.texts()) == 6


async def test_a_change_needs_no_slot(office: SlowOffice) -> None:
    office.settings = settings(lanes=LaneSettings(max_concurrent=1, max_queued=0))
    office.runner.script("elsewhere", gate := Gate(), answered())
    await office.queue.enqueue(run("elsewhere", session_key=SessionKey("main", "other")))
    await gate.reached.wait()

    await begin(office, "compact")

    assert await office.texts() == ["hello", "hi"]
    gate.opened.set()
    await office.log.end_of("elsewhere")


async def test_changes_that_pile_up_are_refused(office: SlowOffice) -> None:
    office.settings = settings(lanes=LaneSettings(max_waiting=1))
    office.slow.gates["compact"] = gate = Gate()
    changing = [begin(office, "compact") for _ in range(2)]
    await gate.reached.wait()

    with pytest.raises(SessionBusy, match="2 changes of it are waiting"):
        await begin(office, "compact")

    gate.opened.set()
    await asyncio.gather(*changing)


async def test_what_is_expected_of_a_session_is_looked_at_when_it_is_changed(
    office: SlowOffice,
) -> None:
    info = await office.slow.find(TALK)
    assert info is not None
    office.slow.gates["compact"] = gate = Gate()
    first = begin(office, "compact")
    await gate.reached.wait()
    expected = Expected(info.session_id)
    second = asyncio.create_task(office.session_service.reset(ADMIN, TALK, expected=expected))
    await asyncio.sleep(0)  # It finds what it expects, and waits.

    gate.opened.set()
    await first

    with pytest.raises(InvalidRequest, match="any more"):
        await second
    assert await office.texts() == ["hello", "hi"]


async def test_settings_are_changed_beside_a_run(office: SlowOffice) -> None:
    office.runner.script("ahead", gate := Gate(), answered("done"))
    await office.queue.enqueue(run("ahead"))
    await gate.reached.wait()

    info = await office.session_service.patch(ADMIN, TALK, {"label": "Talk"})

    assert dict(info.settings) == {"label": "Talk"}
    gate.opened.set()
    assert isinstance(await office.log.end_of("ahead"), Finished)


async def test_a_label_is_not_free_while_somebody_who_left_gets_it(office: SlowOffice) -> None:
    office.slow.gates["patch"] = gate = Gate()
    first = asyncio.create_task(office.session_service.patch(ADMIN, TALK, {"label": "Talk"}))
    await gate.reached.wait()
    first.cancel()
    other = SessionKey("main", "other")
    second = asyncio.create_task(office.session_service.patch(ADMIN, other, {"label": "Talk"}))
    await asyncio.gather(first, return_exceptions=True)

    gate.opened.set()

    with pytest.raises(InvalidRequest, match="label already in use"):
        await second


async def test_a_session_that_starts_over_by_its_age_does_so_behind_a_change(
    office: SlowOffice,
) -> None:
    office.clock.advance(2 * 86_400)
    office.slow.gates["append"] = gate = Gate()
    injecting = begin(office, "inject")
    await gate.reached.wait()
    await office.queue.enqueue(run("late", messages=(user("and now?"),)))

    gate.opened.set()
    await injecting

    # What was injected has made the session young again, so that the run goes on with it.
    assert isinstance(await office.log.end_of("late"), Finished)
    assert (await office.texts())[-3:] == ["by the way", "and now?", "hi"]
