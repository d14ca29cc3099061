"""What happened in a Run is told to whoever follows, in order, once, and not for ever."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from opensoul.adapters.stores.run_log import EVENT_BYTES, MemoryRunLog
from opensoul.domain.errors import EventsExpired, UnknownRun
from opensoul.domain.model_calls import ReasoningDelta, StopReason, TextDelta, Usage
from opensoul.domain.ports import RunLog
from opensoul.domain.runs import Aborted, Failed, Finished, NumberedEvent, RunEvent, Started

END = Finished(StopReason.STOP, Usage(1, 1), "demo/parrot")


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def log_with(run_id: str, *events: RunEvent, clock: HandClock, **limits: int) -> MemoryRunLog:
    log = MemoryRunLog(clock=clock, **limits)
    log.open(run_id)
    for event in events:
        log.append(run_id, event)
    return log


async def told(log: RunLog, run_id: str, after: int = 0) -> list[NumberedEvent]:
    async with aclosing(log.follow(run_id, after)) as events:
        return [event async for event in events]


def texts(events: list[NumberedEvent]) -> str:
    return "".join(e.event.text for e in events if isinstance(e.event, TextDelta))


async def test_a_finished_run_is_told_from_the_beginning(clock: HandClock) -> None:
    said: tuple[RunEvent, ...] = (
        Started(0.0, 0.0),
        ReasoningDelta("hm"),
        TextDelta("Hel"),
        TextDelta("lo"),
        END,
    )
    log = log_with("r", *said, clock=clock)
    assert await told(log, "r") == [NumberedEvent(n, e) for n, e in enumerate(said, 1)]


@pytest.mark.parametrize(
    ("after", "seqs"), [(0, [1, 2, 3]), (-7, [1, 2, 3]), (1, [2, 3]), (3, []), (99, [])]
)
async def test_a_follower_says_from_where(clock: HandClock, after: int, seqs: list[int]) -> None:
    log = log_with("r", TextDelta("a"), TextDelta("b"), END, clock=clock)
    assert [event.seq for event in await told(log, "r", after)] == seqs


async def test_events_are_numbered_from_one_in_each_run(clock: HandClock) -> None:
    log = log_with("r", clock=clock)
    log.open("other")
    assert [log.append("r", TextDelta("a")), log.append("other", TextDelta("a"))] == [1, 1]
    assert log.append("r", END) == 2


async def test_a_follower_is_told_what_comes_until_the_end(clock: HandClock) -> None:
    log = log_with("r", TextDelta("a"), clock=clock)
    async with aclosing(log.follow("r")) as events:
        assert (await anext(events)).seq == 1
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not waiting.done()
        log.append("r", TextDelta("b"))
        assert await waiting == NumberedEvent(2, TextDelta("b"))
        log.append("r", END)
        assert [event.seq async for event in events] == [3]


async def test_many_followers_are_told_the_same(clock: HandClock) -> None:
    log = log_with("r", clock=clock)
    followers = [asyncio.create_task(told(log, "r")) for _ in range(50)]
    for n in range(200):
        log.append("r", TextDelta(f"{n} "))
        if n % 7 == 0:
            await asyncio.sleep(0)
    log.append("r", END)
    everything = await told(log, "r")
    assert len(everything) == 201
    assert await asyncio.gather(*followers) == [everything] * 50


async def test_a_burst_is_told_without_going_round_the_loop(clock: HandClock) -> None:
    log = log_with("r", *[TextDelta("x")] * 1_000, END, clock=clock)
    rounds: list[None] = []
    loop = asyncio.get_running_loop()
    loop.call_soon(rounds.append, None)
    assert len([event async for event in log.follow("r")]) == 1_001
    assert rounds == []
    await asyncio.sleep(0)


@pytest.mark.parametrize("end", [END, Failed("x", "it failed"), Aborted("enough")])
async def test_nothing_comes_after_the_end(clock: HandClock, end: RunEvent) -> None:
    log = log_with("r", end, clock=clock)
    with pytest.raises(RuntimeError, match="'r' has ended"):
        log.append("r", TextDelta("late"))
    assert len(await told(log, "r")) == 1


async def test_a_run_is_opened_once_and_before_it_is_told_of(clock: HandClock) -> None:
    log = log_with("r", clock=clock)
    with pytest.raises(ValueError, match="'r' has a log already"):
        log.open("r")
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        log.append("nobody", END)
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        log.follow("nobody")


async def test_the_oldest_events_fall_out_of_a_long_run(clock: HandClock) -> None:
    said = [TextDelta(f"{n}") for n in range(25)]
    log = log_with("r", *said, clock=clock, max_events_per_run=10)
    with pytest.raises(EventsExpired, match=r"Event 1 of run 'r'.*oldest kept one is 16"):
        await told(log, "r")
    with pytest.raises(EventsExpired):
        await told(log, "r", after=14)
    log.append("r", END)
    assert [event.seq for event in await told(log, "r", after=16)] == list(range(17, 27))


async def test_a_follower_that_falls_too_far_behind_is_told_so(clock: HandClock) -> None:
    log = log_with("r", *[TextDelta("x")] * 5, clock=clock, max_events_per_run=10)
    async with aclosing(log.follow("r")) as slow, aclosing(log.follow("r")) as quick:
        assert (await anext(slow)).seq == 1
        for _ in range(20):
            await anext(quick)
            log.append("r", TextDelta("x"))
        assert (await anext(quick)).seq == 21
        with pytest.raises(EventsExpired, match="Event 2"):
            await anext(slow)


async def test_long_texts_fall_out_sooner_but_the_newest_stays(clock: HandClock) -> None:
    limit = 3 * (EVENT_BYTES + 1_000)
    log = log_with("r", clock=clock, max_bytes=limit)
    for n in range(10):
        log.append("r", TextDelta(f"{n}" * 1_000))
    log.append("r", ReasoningDelta("x" * 10 * limit))
    async with aclosing(log.follow("r", 10)) as events:
        assert (await anext(events)).seq == 11
    log.append("r", END)
    assert [event.seq for event in await told(log, "r", 11)] == [12]
    with pytest.raises(EventsExpired):
        await told(log, "r", 10)


async def test_a_finished_run_is_forgotten_after_a_while(clock: HandClock) -> None:
    log = log_with("r", END, clock=clock)
    clock.now += 60.0
    assert len(await told(log, "r")) == 1
    follower = log.follow("r")
    clock.now += 0.1
    with pytest.raises(UnknownRun):
        log.follow("r")
    assert [event.seq async for event in follower] == [1]
    log.open("r")


async def test_newer_finished_runs_push_out_older_ones_but_no_live_one(clock: HandClock) -> None:
    log = log_with("live", TextDelta("a"), clock=clock, keep_finished=3)
    for n in range(10):
        log.open(f"r{n}")
        log.append(f"r{n}", END)
    with pytest.raises(UnknownRun):
        log.follow("r6")
    assert [len(await told(log, f"r{n}")) for n in (7, 8, 9)] == [1, 1, 1]
    log.append("live", END)
    assert texts(await told(log, "live")) == "a"


async def test_finished_runs_that_take_much_room_are_pushed_out_sooner(clock: HandClock) -> None:
    log = MemoryRunLog(clock=clock, keep_bytes=10_000)
    for n in range(5):
        log.open(f"r{n}")
        log.append(f"r{n}", TextDelta("x" * 4_000))
        log.append(f"r{n}", END)
    with pytest.raises(UnknownRun):
        log.follow("r2")
    assert len(await told(log, "r3")) == 2


def holdings(log: MemoryRunLog) -> tuple[int, int, int]:
    """How many logs, finished runs and followers that wait the log holds on to."""
    logs = log._logs.values()
    return len(logs), len(log._finished), sum(len(one.waiters) for one in logs)


async def test_memory_is_flat_over_many_runs(clock: HandClock) -> None:
    log = log_with("live", clock=clock)
    watcher = asyncio.create_task(told(log, "live"))
    await asyncio.sleep(0)
    for n in range(100_000):
        clock.now += 0.001
        log.open(f"r{n}")
        log.append(f"r{n}", TextDelta("word"))
        log.append(f"r{n}", END)
    assert holdings(log) == (257, 256, 1)
    assert log._finished_bytes == 256 * (2 * EVENT_BYTES + 4)
    clock.now += 61.0
    log.append("live", END)
    assert holdings(log) == (1, 1, 0)
    assert len(await watcher) == 1


async def test_a_follower_that_leaves_leaves_no_trace(clock: HandClock) -> None:
    log = log_with("r", TextDelta("a"), clock=clock)
    followers = [asyncio.create_task(told(log, "r")) for _ in range(5)]
    async with aclosing(log.follow("r")) as events:
        await anext(events)
        await asyncio.sleep(0)
        assert holdings(log) == (1, 0, 5)
    followers[0].cancel()
    await asyncio.wait(followers[:1])
    assert holdings(log) == (1, 0, 4)
    followers[1].cancel()
    log.append("r", END)
    assert holdings(log) == (1, 1, 0)
    ends = await asyncio.gather(*followers, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ends] == [True] * 2 + [False] * 3
