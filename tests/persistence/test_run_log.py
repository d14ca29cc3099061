"""What all RunEvents tell whoever follows: all that happened, in order, once, and not for ever.

A new log is one more entry in STORIES.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Protocol

import pytest

from opensoul.adapters.persistence.common.event_logs import EVENT_BYTES, MOST_AT_ONCE
from opensoul.adapters.persistence.common.live_logs import BOUNDS, Bounds
from opensoul.domain.errors import EventsExpired, UnknownRun
from opensoul.domain.models.calls import ReasoningDelta, TextDelta
from opensoul.domain.runs.events import (
    Aborted,
    EventBatch,
    Failed,
    NumberedEvent,
    RunEvent,
    Started,
)

from .run_logs import END, LOGS, HandClock, numbered, record, texts, told, told_kept
from .stories import STORIES, Story, story

Told = Callable[[Story, str, int], Awaitable[list[NumberedEvent]]]


class Make(Protocol):
    """Makes a log in which these events have happened in the Run `r`."""

    async def __call__(self, *events: RunEvent, bounds: Bounds = BOUNDS) -> Story: ...


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def make_of(
    kind: str, request: pytest.FixtureRequest, directory: Path, clock: HandClock
) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def make(*events: RunEvent, bounds: Bounds = BOUNDS) -> Story:
            log = await stack.enter_async_context(story(kind, request, directory, clock, bounds))
            await log.happen("r", *events)
            return log

        yield make


@pytest.fixture(params=STORIES)
async def make(
    request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock
) -> AsyncIterator[Make]:
    async for made in make_of(request.param, request, tmp_path, clock):
        yield made


@pytest.fixture(params=LOGS)
async def make_local(
    request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock
) -> AsyncIterator[Make]:
    """Of those that know nothing more of a Run than memory does, or a file of the same bounds."""
    async for made in make_of(request.param, request, tmp_path, clock):
        yield made


async def told_now(log: Story, run_id: str, after: int) -> list[NumberedEvent]:
    return await told(log, run_id, after)


async def told_once_kept(log: Story, run_id: str, after: int) -> list[NumberedEvent]:
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
    await log.open(record("other"))
    assert [await log.put("r", TextDelta("a")), await log.put("other", TextDelta("a"))] == [1, 1]
    assert await log.put("r", END) == 2


def following(log: Story, way: str, after: int = 0) -> AsyncIterator[EventBatch]:
    return log.follow("r", after) if way == "follow" else log.follow_kept("r", after)


@pytest.mark.parametrize("way", ["follow", "follow_kept"])
async def test_a_follower_is_told_what_comes_until_the_end(make: Make, way: str) -> None:
    log = await make(TextDelta("a"))
    events = following(log, way)
    assert [event.seq for event in await anext(events)] == [1]
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    assert not waiting.done()
    await log.put("r", TextDelta("b"))
    assert list(await waiting) == [NumberedEvent(2, TextDelta("b"))]
    await log.put("r", END)
    assert [event.seq async for told in events for event in told] == [3]
    with pytest.raises(StopAsyncIteration):
        await anext(events)


@pytest.mark.parametrize("way", ["follow", "follow_kept"])
async def test_who_gives_up_waiting_and_asks_again_misses_nothing(make: Make, way: str) -> None:
    log = await make()
    events, seen = following(log, way), list[NumberedEvent]()
    said: list[RunEvent] = []
    for n in range(10):
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    while True:
                        seen += await anext(events)
        said += [TextDelta(f"{n}"), TextDelta("|")]
        await log.put("r", *said[-2:])
    await log.put("r", END)
    async for span in events:
        seen += span
    assert seen == numbered([*said, END])


@pytest.mark.parametrize("way", ["follow", "follow_kept"])
async def test_who_is_cancelled_at_any_moment_misses_nothing(make: Make, way: str) -> None:
    log = await make()
    events, seen = following(log, way), list[NumberedEvent]()
    for n in range(200):
        waiting = asyncio.ensure_future(anext(events))
        for _ in range(n % 5):
            await asyncio.sleep(0)
        await log.put("r", TextDelta(f"{n}"))
        for _ in range(n % 7):
            await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            seen += await waiting
    await log.put("r", END)
    async for span in events:
        seen += span
    assert [event.seq for event in seen] == list(range(1, 202))


@pytest.mark.parametrize("way", ["follow", "follow_kept"])
@pytest.mark.parametrize("ended", [True, False])
async def test_not_very_much_is_told_at_once(make: Make, way: str, ended: bool) -> None:
    said = [TextDelta(f"{n}") for n in range(1_000)]
    log = await make(*said, *([END] if ended else []))
    spans, seen = following(log, way), list[NumberedEvent]()
    while len(seen) < 1_000:
        span = await anext(spans)
        assert 1 <= len(span.events) <= MOST_AT_ONCE == 256
        seen += span
    assert seen == numbered([*said, *([END] if ended else [])])


@either_way
async def test_events_that_are_added_together_are_numbered_in_order(
    make: Make, told_of: Told
) -> None:
    log = await make(Started(0.0, 0.0))
    said: tuple[RunEvent, ...] = (TextDelta("a"), ReasoningDelta("hm"), TextDelta("a"))
    assert await log.put("r", *said) == 4
    assert await log.put("r", TextDelta("b"), END) == 6
    assert await told_of(log, "r", 0) == numbered([Started(0.0, 0.0), *said, TextDelta("b"), END])


@pytest.mark.parametrize("way", ["follow", "follow_kept"])
async def test_what_is_added_together_is_told_together(make: Make, way: str) -> None:
    log = await make()
    waiting = asyncio.ensure_future(anext(following(log, way)))
    await asyncio.sleep(0)
    await log.put("r", TextDelta("a"), TextDelta("a"), TextDelta("b"))
    assert await waiting == EventBatch(1, (TextDelta("a"), TextDelta("a"), TextDelta("b")))


@either_way
async def test_of_events_with_an_end_before_one_of_them_none_is_added(
    make_local: Make, told_of: Told
) -> None:
    log = await make_local()
    with pytest.raises(RuntimeError, match="'r' has ended"):
        await log.put("r", TextDelta("a"), END, TextDelta("late"))
    await log.put("r", TextDelta("b"), END)
    assert await told_of(log, "r", 0) == numbered([TextDelta("b"), END])


@either_way
async def test_many_followers_are_told_the_same(make: Make, told_of: Told) -> None:
    log = await make()
    followers = [asyncio.ensure_future(told_of(log, "r", 0)) for _ in range(50)]
    for n in range(200):
        await log.put("r", TextDelta(f"{n} "))
        if n % 7 == 0:
            await asyncio.sleep(0)
    await log.put("r", END)
    everything = await told(log)
    assert len(everything) == 201
    assert await asyncio.gather(*followers) == [everything] * 50


async def test_a_burst_is_told_without_going_round_the_loop(make: Make) -> None:
    log = await make(*[TextDelta("x")] * 1_000, END)
    rounds: list[None] = []
    loop = asyncio.get_running_loop()
    loop.call_soon(rounds.append, None)
    assert len(await told(log)) == 1_001
    assert rounds == []
    await asyncio.sleep(0)


@either_way
@pytest.mark.parametrize("end", [END, Failed("x", "it failed"), Aborted("enough")])
async def test_nothing_comes_after_the_end(make_local: Make, told_of: Told, end: RunEvent) -> None:
    log = await make_local(end)
    with pytest.raises(RuntimeError, match="'r' has ended"):
        await log.put("r", TextDelta("late"))
    assert len(await told_of(log, "r", 0)) == 1


async def test_a_run_is_opened_once_and_before_it_is_told_of(make: Make) -> None:
    log = await make()
    with pytest.raises(ValueError, match="'r' has a log already"):
        await log.open(record("r"))
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        await told(log, "nobody")
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        await told_kept(log, "nobody")


async def test_nothing_is_added_to_a_run_that_was_not_opened(make_local: Make) -> None:
    log = await make_local()
    with pytest.raises(UnknownRun, match="no run 'nobody'"):
        await log.put("nobody", END)


@either_way
async def test_the_oldest_events_fall_out_of_a_long_run(make_local: Make, told_of: Told) -> None:
    log = await make_local(
        *(TextDelta(f"{n}") for n in range(25)), bounds=Bounds(events_per_run=10)
    )
    with pytest.raises(EventsExpired, match=r"Event 1 of run 'r'.*oldest kept one is 16"):
        await told_of(log, "r", 0)
    with pytest.raises(EventsExpired):
        await told_of(log, "r", 14)
    await log.put("r", END)
    assert [event.seq for event in await told_of(log, "r", 16)] == list(range(17, 27))


async def test_a_follower_that_falls_too_far_behind_is_told_so(make_local: Make) -> None:
    log = await make_local(*[TextDelta("x")] * 5, bounds=Bounds(events_per_run=10))
    slow, quick = log.follow("r"), log.follow("r")
    assert (await anext(slow)).last == 5
    for _ in range(20):
        await anext(quick)
        await log.put("r", TextDelta("x"))
    assert [event.seq for event in await anext(quick)] == [25]
    with pytest.raises(EventsExpired, match="Event 6"):
        await anext(slow)


@either_way
async def test_long_texts_fall_out_sooner_but_the_newest_stays(
    make_local: Make, told_of: Told
) -> None:
    limit = 3 * (EVENT_BYTES + 1_000)
    log = await make_local(bounds=Bounds(bytes_per_run=limit))
    for n in range(10):
        await log.put("r", TextDelta(f"{n}" * 1_000))
    await log.put("r", ReasoningDelta("x" * 10 * limit))
    assert [event.seq for event in await anext(log.follow("r", 10))] == [11]
    await log.put("r", END)
    assert [event.seq for event in await told_of(log, "r", 11)] == [12]
    with pytest.raises(EventsExpired):
        await told_of(log, "r", 10)


async def test_a_finished_run_leaves_the_memory_after_a_while(
    make_local: Make, clock: HandClock
) -> None:
    log = await make_local(END)
    clock.now += 60.0
    assert len(await told(log)) == 1
    follower = log.follow("r")
    clock.now += 0.1
    with pytest.raises(UnknownRun):
        await told(log)
    assert [event.seq async for told in follower for event in told] == [1]


async def test_newer_finished_runs_push_out_older_ones_but_no_live_one(make_local: Make) -> None:
    log = await make_local(TextDelta("a"), bounds=Bounds(finished=3))
    for n in range(10):
        await log.happen(f"r{n}", END)
    with pytest.raises(UnknownRun):
        await told(log, "r6")
    assert [len(await told(log, f"r{n}")) for n in (7, 8, 9)] == [1, 1, 1]
    await log.put("r", END)
    assert texts(await told(log)) == "a"


async def test_finished_runs_that_take_much_room_are_pushed_out_sooner(make_local: Make) -> None:
    log = await make_local(bounds=Bounds(finished_bytes=10_000))
    for n in range(5):
        await log.happen(f"r{n}", TextDelta("x" * 4_000), END)
    with pytest.raises(UnknownRun):
        await told(log, "r2")
    assert len(await told(log, "r3")) == 2
