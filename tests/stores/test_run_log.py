"""What every RunLog tells whoever follows: all that happened, in order, once, and not for ever.

A new log is one more entry in LOGS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import pytest

from opensoul.adapters.stores.run_log_events import EVENT_BYTES
from opensoul.adapters.stores.run_log_live import BOUNDS, Bounds
from opensoul.domain.errors import EventsExpired, UnknownRun
from opensoul.domain.model_calls import ReasoningDelta, TextDelta
from opensoul.domain.ports import RunLog
from opensoul.domain.runs import Aborted, Failed, NumberedEvent, RunEvent, Started

from .run_logs import END, LOGS, HandClock, numbered, record, tell, texts, told, told_kept

Told = Callable[[RunLog, str, int], Awaitable[list[NumberedEvent]]]


class Make(Protocol):
    """Makes a log in which these events have happened in the Run `r`."""

    async def __call__(self, *events: RunEvent, bounds: Bounds = BOUNDS) -> RunLog: ...


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=LOGS)
async def make(
    request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock
) -> AsyncIterator[Make]:
    made: list[RunLog] = []

    async def make(*events: RunEvent, bounds: Bounds = BOUNDS) -> RunLog:
        log = LOGS[request.param](tmp_path, clock, bounds)
        made.append(log)
        await log.start()
        tell(log, "r", *events)
        return log

    yield make
    for log in made:
        await log.close()
        await log.close()


async def told_now(log: RunLog, run_id: str, after: int) -> list[NumberedEvent]:
    return await told(log, run_id, after)


async def told_once_kept(log: RunLog, run_id: str, after: int) -> list[NumberedEvent]:
    return await told_kept(log, run_id, after)


either_way = pytest.mark.parametrize("told_of", [told_now, told_once_kept])


@either_way
async def test_a_finished_run_is_told_from_the_beginning(make: Make, told_of: Told) -> None:
    said: tuple[RunEvent, ...] = (
        Started(0.0, 0.0),
        ReasoningDelta("hm"),
        TextDelta("Hel"),
        TextDelta("lo \ud800"),
        END,
    )
    assert await told_of(await make(*said), "r", 0) == numbered(said)


@either_way
@pytest.mark.parametrize(
    ("after", "seqs"), [(0, [1, 2, 3]), (-7, [1, 2, 3]), (1, [2, 3]), (3, []), (99, [])]
)
async def test_a_follower_says_from_where(
    make: Make, told_of: Told, after: int, seqs: list[int]
) -> None:
    log = await make(TextDelta("a"), TextDelta("b"), END)
    assert [event.seq for event in await told_of(log, "r", after)] == seqs


async def test_events_are_numbered_from_one_in_each_run(make: Make) -> None:
    log = await make()
    log.open(record("other"))
    assert [log.append("r", TextDelta("a")), log.append("other", TextDelta("a"))] == [1, 1]
    assert log.append("r", END) == 2


@pytest.mark.parametrize("way", ["follow", "follow_kept"])
async def test_a_follower_is_told_what_comes_until_the_end(make: Make, way: str) -> None:
    log = await make(TextDelta("a"))
    async with aclosing(getattr(log, way)("r")) as events:
        assert (await anext(events)).seq == 1
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not waiting.done()
        log.append("r", TextDelta("b"))
        assert await waiting == NumberedEvent(2, TextDelta("b"))
        log.append("r", END)
        assert [event.seq async for event in events] == [3]


@either_way
async def test_many_followers_are_told_the_same(make: Make, told_of: Told) -> None:
    log = await make()
    followers = [asyncio.ensure_future(told_of(log, "r", 0)) for _ in range(50)]
    for n in range(200):
        log.append("r", TextDelta(f"{n} "))
        if n % 7 == 0:
            await asyncio.sleep(0)
    log.append("r", END)
    everything = await told(log)
    assert len(everything) == 201
    assert await asyncio.gather(*followers) == [everything] * 50


async def test_a_burst_is_told_without_going_round_the_loop(make: Make) -> None:
    log = await make(*[TextDelta("x")] * 1_000, END)
    rounds: list[None] = []
    loop = asyncio.get_running_loop()
    loop.call_soon(rounds.append, None)
    assert len([event async for event in log.follow("r")]) == 1_001
    assert rounds == []
    await asyncio.sleep(0)


@either_way
@pytest.mark.parametrize("end", [END, Failed("x", "it failed"), Aborted("enough")])
async def test_nothing_comes_after_the_end(make: Make, told_of: Told, end: RunEvent) -> None:
    log = await make(end)
    with pytest.raises(RuntimeError, match="'r' has ended"):
        log.append("r", TextDelta("late"))
    assert len(await told_of(log, "r", 0)) == 1


async def test_a_run_is_opened_once_and_before_it_is_told_of(make: Make) -> None:
    log = await make()
    with pytest.raises(ValueError, match="'r' has a log already"):
        log.open(record("r"))
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        log.append("nobody", END)
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        await told(log, "nobody")
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        await told_kept(log, "nobody")


@either_way
async def test_the_oldest_events_fall_out_of_a_long_run(make: Make, told_of: Told) -> None:
    log = await make(*(TextDelta(f"{n}") for n in range(25)), bounds=Bounds(events_per_run=10))
    with pytest.raises(EventsExpired, match=r"Event 1 of run 'r'.*oldest kept one is 16"):
        await told_of(log, "r", 0)
    with pytest.raises(EventsExpired):
        await told_of(log, "r", 14)
    log.append("r", END)
    assert [event.seq for event in await told_of(log, "r", 16)] == list(range(17, 27))


async def test_a_follower_that_falls_too_far_behind_is_told_so(make: Make) -> None:
    log = await make(*[TextDelta("x")] * 5, bounds=Bounds(events_per_run=10))
    async with aclosing(log.follow("r")) as slow, aclosing(log.follow("r")) as quick:
        assert (await anext(slow)).seq == 1
        for _ in range(20):
            await anext(quick)
            log.append("r", TextDelta("x"))
        assert (await anext(quick)).seq == 21
        with pytest.raises(EventsExpired, match="Event 2"):
            await anext(slow)


@either_way
async def test_long_texts_fall_out_sooner_but_the_newest_stays(make: Make, told_of: Told) -> None:
    limit = 3 * (EVENT_BYTES + 1_000)
    log = await make(bounds=Bounds(bytes_per_run=limit))
    for n in range(10):
        log.append("r", TextDelta(f"{n}" * 1_000))
    log.append("r", ReasoningDelta("x" * 10 * limit))
    async with aclosing(log.follow("r", 10)) as events:
        assert (await anext(events)).seq == 11
    log.append("r", END)
    assert [event.seq for event in await told_of(log, "r", 11)] == [12]
    with pytest.raises(EventsExpired):
        await told_of(log, "r", 10)


async def test_a_finished_run_leaves_the_memory_after_a_while(make: Make, clock: HandClock) -> None:
    log = await make(END)
    clock.now += 60.0
    assert len(await told(log)) == 1
    follower = log.follow("r")
    clock.now += 0.1
    with pytest.raises(UnknownRun):
        await told(log)
    assert [event.seq async for event in follower] == [1]


async def test_newer_finished_runs_push_out_older_ones_but_no_live_one(make: Make) -> None:
    log = await make(TextDelta("a"), bounds=Bounds(finished=3))
    for n in range(10):
        tell(log, f"r{n}", END)
    with pytest.raises(UnknownRun):
        await told(log, "r6")
    assert [len(await told(log, f"r{n}")) for n in (7, 8, 9)] == [1, 1, 1]
    log.append("r", END)
    assert texts(await told(log)) == "a"


async def test_finished_runs_that_take_much_room_are_pushed_out_sooner(make: Make) -> None:
    log = await make(bounds=Bounds(finished_bytes=10_000))
    for n in range(5):
        tell(log, f"r{n}", TextDelta("x" * 4_000), END)
    with pytest.raises(UnknownRun):
        await told(log, "r2")
    assert len(await told(log, "r3")) == 2
