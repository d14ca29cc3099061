"""What Runs take in memory, and that it is given back."""

from __future__ import annotations

import asyncio

import pytest

from opensoul.adapters.persistence.common.event_logs import EVENT_BYTES, Log
from opensoul.adapters.persistence.common.live_logs import Bounds, LiveRuns
from opensoul.adapters.persistence.memory.run_events import MemoryRunEvents
from opensoul.domain.models.calls import TextDelta

from .run_logs import END, HandClock, record, tell, told


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def log(clock: HandClock) -> MemoryRunEvents:
    return MemoryRunEvents(clock=clock, steady=clock)


def live_runs(log: MemoryRunEvents) -> LiveRuns[Log]:
    return log._live


def holdings(log: MemoryRunEvents) -> tuple[int, int, int]:
    """How many logs, finished runs and followers that wait the log holds on to."""
    live = live_runs(log)
    return len(live._logs), len(live._finished), sum(len(one.waiters) for one in live)


async def test_memory_is_flat_over_many_runs(log: MemoryRunEvents, clock: HandClock) -> None:
    log.open(record("live"))
    watcher = asyncio.create_task(told(log, "live"))
    await asyncio.sleep(0)
    for n in range(10_000):
        clock.now += 0.001
        tell(log, f"r{n}", TextDelta("word"), END)
    assert holdings(log) == (257, 256, 1)
    clock.now += 61.0
    log.put("live", END)
    assert holdings(log) == (1, 1, 0)
    assert len(await watcher) == 1


async def test_a_follower_that_leaves_leaves_no_trace(log: MemoryRunEvents) -> None:
    tell(log, "r", TextDelta("a"))
    followers = [asyncio.create_task(told(log, "r")) for _ in range(5)]
    await anext(log.follow("r"))
    await asyncio.sleep(0)
    assert holdings(log) == (1, 0, 5)
    followers[0].cancel()
    await asyncio.wait(followers[:1])
    assert holdings(log) == (1, 0, 4)
    followers[1].cancel()
    log.put("r", END)
    assert holdings(log) == (1, 1, 0)
    ends = await asyncio.gather(*followers, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ends] == [True] * 2 + [False] * 3


async def test_what_long_runs_give_up_at_their_end_is_not_counted_for_ever(
    clock: HandClock,
) -> None:
    """Or else the ended runs that there is room for would become fewer and fewer."""
    bounds = Bounds(events_per_run=3, finished_bytes=4 * (3 * EVENT_BYTES + 2_000))
    log = MemoryRunEvents(clock=clock, steady=clock, bounds=bounds)
    for round_ in range(5):
        ids = [f"{round_}-{n}" for n in range(10)]
        for run_id in ids:
            tell(log, run_id, *[TextDelta("x" * 1_000)] * 3, END)
        assert [one for one in ids if await log.find(one)] == ids[-4:]
        clock.now += 61.0


async def test_a_forgotten_id_is_free_again(log: MemoryRunEvents, clock: HandClock) -> None:
    tell(log, "r", END)
    clock.now += 61.0
    tell(log, "r", END)
    assert await log.unfinished() == ()
