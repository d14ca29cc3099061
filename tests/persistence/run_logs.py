"""Run logs for tests: each kind there is, and what is said in Runs and told of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol

from opensoul.adapters.persistence.common.live_logs import BOUNDS, Bounds
from opensoul.adapters.persistence.memory.run_events import MemoryRunEvents
from opensoul.adapters.persistence.queue import RunRows
from opensoul.adapters.persistence.sqlite.runs.run_events import SqliteRunEvents
from opensoul.domain.models.calls import StopReason, TextDelta, Usage
from opensoul.domain.ports import Clock, RunEvents
from opensoul.domain.runs.events import EventBatch, Finished, NumberedEvent, RunEvent
from opensoul.domain.runs.records import RunQuery, RunRecord
from opensoul.domain.sessions.keys import SessionKey

END = Finished(StopReason.STOP, Usage(1, 1), "demo/parrot")
FILE = "runs.sqlite3"
FORGETFUL = Bounds(finished=0)
"""Nothing that has ended stays in memory."""


class LocalRunEvents(RunEvents, RunRows, Protocol):
    """RunEvents beside which a LocalQueue can stand."""


LOGS: dict[str, Callable[[Path, Clock, Bounds], LocalRunEvents]] = {
    "memory": lambda directory, clock, bounds: MemoryRunEvents(
        clock=clock, bounds=bounds, steady=clock
    ),
    "sqlite": lambda directory, clock, bounds: SqliteRunEvents(
        directory / FILE, clock=clock, bounds=bounds, steady=clock
    ),
}


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def record(run_id: str = "r", **changes: Any) -> RunRecord:
    values: dict[str, Any] = {
        "session_key": SessionKey("main", "somebody"),
        "agent_id": "main",
        "principal_id": "operator",
        "source": "agent",
        "accepted_at": 1_000.0,
        **changes,
    }
    return RunRecord(run_id, **values)


@asynccontextmanager
async def started(
    directory: Path, clock: Clock | None = None, bounds: Bounds = BOUNDS, **options: Any
) -> AsyncIterator[SqliteRunEvents]:
    """The durable log of that directory, for as long as a process might have it."""
    clock = clock or HandClock()
    options = {"steady": clock, **options}
    log = SqliteRunEvents(directory / FILE, clock=clock, bounds=bounds, **options)
    await log.start()
    try:
        yield log
    finally:
        await log.close()


def tell(log: LocalRunEvents, run_id: str, *events: RunEvent) -> None:
    """Have these events happen in a new Run."""
    log.open(record(run_id))
    for event in events:
        log.put(run_id, event)


class Followed(Protocol):
    """What has followers."""

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]: ...

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]: ...


async def told(log: Followed, run_id: str = "r", after: int = 0) -> list[NumberedEvent]:
    return [numbered async for span in log.follow(run_id, after) for numbered in span]


async def told_kept(
    log: Followed, run_id: str = "r", after: int = 0, *, until: int | None = None
) -> list[NumberedEvent]:
    """What a follower of the kept events is told, up to a number or the end."""
    events: list[NumberedEvent] = []
    async for span in log.follow_kept(run_id, after):
        events += span
        if until is not None and span.last >= until:
            return [event for event in events if event.seq <= until]
    return events


def numbered(events: Iterable[RunEvent], first: int = 1) -> list[NumberedEvent]:
    return [NumberedEvent(n, event) for n, event in enumerate(events, first)]


def texts(events: Iterable[NumberedEvent]) -> str:
    return "".join(e.event.text for e in events if isinstance(e.event, TextDelta))


def words(*texts: str) -> list[RunEvent]:
    return [TextDelta(text) for text in texts]


async def listed(log: SqliteRunEvents) -> list[str]:
    return [run.id for run in (await log.list(RunQuery())).runs]


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def names_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


async def until(path: Path, sql: str, found: Callable[[Any], bool]) -> None:
    """Look into the file until that is found: nobody is told of a write that nobody waits for."""
    async with asyncio.timeout(10):
        while not found(rows(path, sql)[0][0]):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)
