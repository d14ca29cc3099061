"""Whatever is added when, and whoever comes from where: each event once, in order, no gap."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from opensoul.adapters.persistence.common.live_logs import Bounds
from opensoul.adapters.persistence.sqlite.runs.run_events import SqliteRunEvents
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.events import NumberedEvent, RunEvent
from tests.examples import examples

from .run_logs import END, numbered, record, started, told, told_kept

RUNS = ("a", "b", "c")
STEPS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(RUNS), st.integers(1, 5)),
    st.tuples(st.just("append together"), st.sampled_from(RUNS), st.integers(2, 5)),
    st.tuples(st.just("end together"), st.sampled_from(RUNS), st.integers(2, 5)),
    st.tuples(st.just("end"), st.sampled_from(RUNS), st.just(0)),
    st.tuples(st.just("follow_kept"), st.sampled_from(RUNS), st.integers(0, 8)),
    st.tuples(st.just("follow"), st.sampled_from(RUNS), st.integers(0, 8)),
    st.tuples(st.just("wait"), st.just(""), st.integers(0, 3)),
)
Step = tuple[str, str, int]
Following = tuple[str, int, asyncio.Task[list[NumberedEvent]]]


class World:
    """Three Runs, their followers, and what truly happened."""

    def __init__(self, log: SqliteRunEvents) -> None:
        self.log = log
        self.truth: dict[str, list[NumberedEvent]] = {run_id: [] for run_id in RUNS}
        self.ended: set[str] = set()
        self.followers: list[Following] = []
        self.restarted = False

    async def do(self, step: Step) -> None:
        match step:
            case "append", run_id, times if run_id not in self.ended:
                for _ in range(times):
                    self.append(run_id, TextDelta(f"{len(self.truth[run_id])}"))
            case "append together", run_id, times if run_id not in self.ended:
                self.append(run_id, *self.words(run_id, times))
            case "end together", run_id, times if run_id not in self.ended:
                self.ended.add(run_id)
                self.append(run_id, *self.words(run_id, times), END)
            case "end", run_id, _ if run_id not in self.ended:
                self.ended.add(run_id)
                self.append(run_id, END)
            case "follow_kept", run_id, after:
                task = asyncio.create_task(told_kept(self.log, run_id, after))
                self.followers.append((run_id, after, task))
            case "follow", run_id, after if run_id not in self.ended and not self.restarted:
                task = asyncio.create_task(told(self.log, run_id, after))
                self.followers.append((run_id, after, task))
            case "wait", _, times:
                await asyncio.sleep(times / 1_000)
            case _:
                pass

    def words(self, run_id: str, count: int) -> list[RunEvent]:
        said = len(self.truth[run_id])
        return [TextDelta(f"{said + n}") for n in range(count)]

    def append(self, run_id: str, *events: RunEvent) -> None:
        last = self.log.put(run_id, *events)
        self.truth[run_id] += numbered(events, last - len(events) + 1)

    def leave(self) -> None:
        """Nobody follows any more."""
        for *_, task in self.followers:
            task.cancel()
        self.followers.clear()

    async def end(self) -> None:
        """All Runs come to their end, and every follower was told the truth."""
        for run_id in RUNS:
            await self.do(("end", run_id, 0))
        for run_id, after, task in self.followers:
            assert await task == self.truth[run_id][after:]
        for run_id in RUNS:
            assert await told_kept(self.log, run_id) == self.truth[run_id]


@settings(max_examples=examples(60), deadline=None)
@given(steps=st.lists(STEPS, max_size=40), finished=st.sampled_from([0, 1, 256]))
def test_every_follower_is_told_the_truth(steps: list[Step], finished: int) -> None:
    asyncio.run(live(steps, len(steps) // 2, Bounds(finished=finished)))


async def live(steps: list[Step], restart: int, bounds: Bounds) -> None:
    """Take the steps; the process dies in an orderly way before step number `restart`."""
    with tempfile.TemporaryDirectory() as directory:
        async with started(Path(directory), bounds=bounds, interval=0.002) as log:
            world = World(log)
            for run_id in RUNS:
                log.open(record(run_id))
            for step in steps[:restart]:
                await world.do(step)
            world.leave()
        async with started(Path(directory), bounds=bounds, interval=0.002) as log:
            world.log, world.restarted = log, True
            for step in steps[restart:]:
                await world.do(step)
            await world.end()
