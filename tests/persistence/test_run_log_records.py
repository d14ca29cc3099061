"""What all RunEvents know of Runs: whose an id is, how a Run stands, which Runs there were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.persistence.common.live_logs import BOUNDS
from opensoul.domain.errors import InvalidRequest, RunInterrupted, UnknownRun
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.ports import RunEvents
from opensoul.domain.runs.events import Aborted, Failed, RunEvent, Started
from opensoul.domain.runs.records import RunQuery, RunStatus
from opensoul.domain.runs.spec import OnLeave
from opensoul.domain.sessions.keys import SessionKey

from .run_logs import END, LOGS, HandClock, LocalRunEvents, record, tell, told, told_kept
from .stories import STORIES, Story, story

STRANGE = "'; DROP TABLE runs; -- \ud83d\ude00 \udc00 \x00"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=LOGS)
async def log(
    request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock
) -> AsyncIterator[LocalRunEvents]:
    log = LOGS[request.param](tmp_path, clock, BOUNDS)
    await log.start()
    yield log
    await log.close()


@pytest.fixture(params=STORIES)
async def story_of(
    request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock
) -> AsyncIterator[Story]:
    async with story(request.param, request, tmp_path, clock) as made:
        yield made


async def ids(log: RunEvents | Story, **query: Any) -> list[str]:
    return [run.id for run in (await log.list(RunQuery(**query))).runs]


async def test_an_id_is_reserved_once(log: LocalRunEvents) -> None:
    first = record("r", fingerprint="one")
    assert await log.reserve(first) is None
    assert await log.reserve(record("r", fingerprint="two")) == first
    assert await log.find("r") == first


async def test_of_callers_at_the_same_time_one_gets_the_id(log: LocalRunEvents) -> None:
    asked = [record("r", fingerprint=str(n)) for n in range(20)]
    answers = await asyncio.gather(*map(log.reserve, asked))
    assert answers == [None, *[asked[0]] * 19]


async def test_a_released_id_is_free(log: LocalRunEvents) -> None:
    await log.reserve(record("r"))
    await log.release("r")
    await log.release("r")
    assert await log.find("r") is None
    with pytest.raises(UnknownRun):
        await told_kept(log)
    assert await log.reserve(record("r", fingerprint="new")) is None


async def test_who_asks_while_an_id_is_released_may_have_it(log: LocalRunEvents) -> None:
    await log.reserve(record("r"))
    _, again = await asyncio.gather(log.release("r"), log.reserve(record("r", source="chat")))
    assert again is None
    assert await log.find("r") == record("r", source="chat")


async def test_a_run_that_was_begun_is_not_released(log: LocalRunEvents) -> None:
    await log.reserve(record("r"))
    log.open(record("r"))
    await log.release("r")
    await log.release("nobody")
    assert await log.reserve(record("r")) == record("r")


async def test_who_follows_a_reserved_run_waits_for_it(log: LocalRunEvents) -> None:
    await log.reserve(record("r"))
    followers = [asyncio.ensure_future(way(log)) for way in (told, told_kept)]
    await asyncio.sleep(0)
    tell(log, "r", TextDelta("a"), END)
    assert [[event.seq for event in told] for told in await asyncio.gather(*followers)] == [
        [1, 2]
    ] * 2


async def test_who_follows_a_reservation_that_is_taken_back_is_told_so(log: LocalRunEvents) -> None:
    await log.reserve(record("r"))
    followers = [asyncio.ensure_future(way(log)) for way in (told, told_kept)]
    await asyncio.sleep(0)
    await log.release("r")
    ends = await asyncio.gather(*followers, return_exceptions=True)
    assert [type(end) for end in ends] == [UnknownRun] * 2


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (END, RunStatus.FINISHED),
        (Failed("x", "it failed"), RunStatus.FAILED),
        (Failed(RunInterrupted.code, "it died"), RunStatus.INTERRUPTED),
        (Aborted("enough"), RunStatus.ABORTED),
    ],
)
async def test_how_a_run_stands_is_known_at_once(
    log: LocalRunEvents, clock: HandClock, end: RunEvent, status: RunStatus
) -> None:
    begun = record("r", on_leave=OnLeave.CONTINUE, fingerprint="f")
    await log.reserve(begun)
    begun = replace(begun, accepted_at=1_000.5)
    log.open(begun)
    assert await log.find("r") == begun
    clock.now += 1.0
    log.put("r", Started(0.0, 0.0))
    log.put("r", TextDelta("a"))
    running = replace(begun, status=RunStatus.RUNNING, started_at=1_001.0, last_seq=2)
    assert await log.find("r") == running
    assert await log.reserve(begun) == running
    clock.now += 1.0
    log.put("r", end)
    ended = replace(running, status=status, ended_at=1_002.0, last_seq=3)
    assert await log.find("r") == ended
    assert (await log.list(RunQuery())).runs == (ended,)
    assert await log.find("other") is None


async def test_which_of_many_runs_go_on_is_known_at_once(story_of: Story) -> None:
    for run_id in ("begun", "told", "over", STRANGE):
        await story_of.open(record(run_id))
    await story_of.put("told", Started(0.0, 0.0), TextDelta("a"))
    await story_of.put("over", END)
    asked = ["begun", "told", "over", STRANGE, "nobody"]
    assert await story_of.which_go_on(asked) == {"begun", "told", STRANGE}
    assert await story_of.which_go_on(["over"]) == frozenset()
    assert await story_of.which_go_on([]) == frozenset()


async def test_strange_texts_are_kept_as_they_are(story_of: Story) -> None:
    strange = record(
        STRANGE,
        session_key=SessionKey("main", STRANGE),
        principal_id=STRANGE,
        source=STRANGE,
        fingerprint=STRANGE,
    )
    await story_of.open(strange)
    await story_of.put(STRANGE, END)
    await told_kept(story_of, STRANGE)
    (found,) = (await story_of.list(RunQuery(session_key=strange.session_key))).runs
    assert (found.id, found.principal_id, found.source) == (STRANGE, STRANGE, STRANGE)
    assert (found.session_key, found.fingerprint) == (strange.session_key, STRANGE)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (END, RunStatus.FINISHED),
        (Failed("x", "it failed"), RunStatus.FAILED),
        (Failed(RunInterrupted.code, "it died"), RunStatus.INTERRUPTED),
        (Aborted("enough"), RunStatus.ABORTED),
    ],
)
async def test_the_times_of_a_run_are_kept(
    story_of: Story, clock: HandClock, end: RunEvent, status: RunStatus
) -> None:
    await story_of.open(record("r", on_leave=OnLeave.CONTINUE, accepted_at=1_000.5))
    clock.now += 1.0
    await story_of.put("r", Started(0.0, 0.0), TextDelta("a"))
    running = await story_of.find("r")
    assert running is not None
    assert (running.status, running.started_at, running.last_seq) == (RunStatus.RUNNING, 1_001.0, 2)
    clock.now += 1.0
    await story_of.put("r", end)
    (ended,) = (await story_of.list(RunQuery())).runs
    assert (ended.status, ended.accepted_at, ended.started_at) == (status, 1_000.5, 1_001.0)
    assert (ended.ended_at, ended.last_seq, ended.on_leave) == (1_002.0, 3, OnLeave.CONTINUE)


async def test_runs_are_listed_newest_first(story_of: Story) -> None:
    """Whatever the system's clock was set to when they came."""
    for run_id, at in (("b", 2.0), ("a", 9e9), ("d", 2.0), ("c", 1.0)):
        await story_of.open(record(run_id, accepted_at=at))
    await story_of.put("d", END)
    await told_kept(story_of, "d")
    assert await ids(story_of) == ["c", "d", "a", "b"]
    assert await ids(story_of, limit=2) == ["c", "d"]


async def test_runs_are_listed_by_session_agent_and_status(story_of: Story) -> None:
    key = SessionKey("beta", "x")
    await story_of.open(record("a"))
    await story_of.open(record("b", agent_id="beta", session_key=key))
    await story_of.happen("c", END)
    await story_of.put("b", Started(0.0, 0.0))
    assert await ids(story_of, agent_id="main") == ["c", "a"]
    assert await ids(story_of, session_key=key) == ["b"]
    assert await ids(story_of, status=RunStatus.QUEUED) == ["a"]
    assert await ids(story_of, status=RunStatus.RUNNING) == ["b"]
    assert await ids(story_of, status=RunStatus.FINISHED, agent_id="main") == ["c"]
    assert await ids(story_of, status=RunStatus.FINISHED, agent_id="beta") == []


async def test_pages_miss_nothing_and_repeat_nothing_while_runs_come(story_of: Story) -> None:
    for n in range(20):
        await story_of.happen(f"r{n:02}", END)
    seen, cursor = [], None
    for page in range(10):
        found = await story_of.list(RunQuery(limit=3, cursor=cursor))
        seen += [run.id for run in found.runs]
        cursor = found.next_cursor
        await story_of.open(record(f"s{page}"))
        if cursor is None:
            break
    assert seen == [f"r{n:02}" for n in reversed(range(20))]


async def test_a_page_begins_behind_a_run_that_is_named(story_of: Story) -> None:
    for n in range(4):
        await story_of.happen(f"r{n}", END)
    await story_of.open(record("going-on"))

    async def behind(run_id: str) -> list[str]:
        page = await story_of.list(RunQuery(cursor=await story_of.cursor(run_id)))
        return [run.id for run in page.runs]

    assert await behind("going-on") == ["r3", "r2", "r1", "r0"]
    assert await behind("r2") == ["r1", "r0"]
    assert await behind("r0") == []
    assert await story_of.cursor("nobody") is None


async def test_runs_of_one_principal_are_listed(story_of: Story) -> None:
    for n, name in enumerate(("ada", "grace", "ada")):
        await story_of.open(record(f"r{n}", principal_id=name))
        await story_of.put(f"r{n}", END)

    page = await story_of.list(RunQuery(principal_id="ada", limit=1))
    assert ([run.id for run in page.runs], page.next_cursor is None) == (["r2"], False)
    rest = await story_of.list(RunQuery(principal_id="ada", limit=1, cursor=page.next_cursor))
    assert ([run.id for run in rest.runs], rest.next_cursor) == (["r0"], None)


@pytest.mark.parametrize("cursor", ["", "x", "\ud800", "bnVsbA==", "WzEsMl0=", "W10", "e30="])
async def test_a_cursor_that_is_none_is_refused(story_of: Story, cursor: str) -> None:
    for status in (None, RunStatus.RUNNING):
        with pytest.raises(InvalidRequest, match="cursor") as refusal:
            await story_of.list(RunQuery(cursor=cursor, status=status))
        assert refusal.value.param == "cursor"


async def test_a_run_of_this_process_is_not_unfinished(log: LocalRunEvents) -> None:
    log.open(record("r"))
    events = log.follow_kept("r")
    log.put("r", TextDelta("a"))
    await anext(events)
    assert await log.unfinished() == ()
