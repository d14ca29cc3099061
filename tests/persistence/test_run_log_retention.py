"""For how long the durable run log keeps what it has."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.live_logs import Bounds
from opensoul.adapters.persistence.sqlite.runs.pruner import Pruner
from opensoul.adapters.persistence.sqlite.runs.schema import RUNS
from opensoul.adapters.persistence.sqlite.schema import open_database
from opensoul.adapters.persistence.sqlite.writer import GroupWriter
from opensoul.domain.errors import EventsExpired, StoreFailed, UnknownRun
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.records import RunRecord, RunStatus

from .run_logs import (
    END,
    FILE,
    FORGETFUL,
    HandClock,
    listed,
    record,
    rows,
    started,
    tell,
    texts,
    told_kept,
    until,
    words,
)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def test_a_prune_that_fails_is_done_later(tmp_path: Path, clock: HandClock) -> None:
    async with started(tmp_path, clock) as log:
        tell(log, "r", END)
    clock.now += 90_000.0
    connection = open_database(tmp_path / FILE, kind=RUNS)
    connection.execute("PRAGMA query_only = ON")
    writer = GroupWriter(connection, RUNS.name)
    pruner = Pruner(writer, clock, keep_seconds=60.0, max_bytes=1_000, size=0)
    pruner.prune()
    with pytest.raises(StoreFailed, match="readonly"):
        await writer.submit(lambda _: None)
    connection.execute("PRAGMA query_only = OFF")
    assert rows(tmp_path / FILE, "SELECT count(*) FROM runs") == [(1,)]
    clock.now += 60.0
    pruner.prune()
    await until(tmp_path / FILE, "SELECT count(*) FROM runs", lambda count: count == 0)
    pruner.close()
    await writer.close()


async def test_a_long_runs_oldest_events_leave_the_file_too(tmp_path: Path) -> None:
    async with started(tmp_path, bounds=Bounds(events_per_run=10)) as log:
        tell(log, "r")
        for _ in range(20):
            log.put("r", TextDelta("x"))
            log.put("r", TextDelta("y"))
            await anext(log.follow_kept("r", log.put("r", TextDelta("z")) - 1))
        log.put("r", END)
    (lowest,) = rows(tmp_path / FILE, "SELECT min(last_seq) FROM events")[0]
    assert isinstance(lowest, int)
    assert lowest >= 52
    async with started(tmp_path) as log:
        with pytest.raises(EventsExpired, match="Event 1 "):
            await told_kept(log)
        assert [event.seq for event in await told_kept(log, after=55)] == [56, 57, 58, 59, 60, 61]


async def test_runs_are_forgotten_a_day_after_their_end(tmp_path: Path, clock: HandClock) -> None:
    async with started(tmp_path, clock) as log:
        for n in range(250):
            tell(log, f"r{n}", *words("a"), END)
        log.open(record("live"))
    clock.now += 86_400.0
    async with started(tmp_path, clock) as log:
        assert await log.find("r7") is not None
        assert texts(await told_kept(log, "r7")) == "a"
        clock.now += 43_261.0  # Of the time that no process was there for, half of the day counts.
        tell(log, "new", END)
        await told_kept(log, "new")
        await until(tmp_path / FILE, "SELECT count(*) FROM runs", lambda count: count == 2)
        assert await log.find("r7") is None
        with pytest.raises(UnknownRun):
            await told_kept(log, "r7")
        assert [run.id for run in await log.unfinished()] == ["live"]
    assert rows(tmp_path / FILE, "SELECT count(*) FROM events") == [(1,)]


async def test_a_run_log_of_the_first_version_is_brought_up_to_date(
    tmp_path: Path, clock: HandClock
) -> None:
    path = tmp_path / FILE
    with closing(open_database(path, RUNS.migrations[:1], kind=RUNS)) as old:
        for number, ended in enumerate((500.0, 90_000.0), 1):
            row = (number, f"r{number}", "agent:main:x", "main", "o", "agent", "abort", "")
            old.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'finished', 0, 0, ?, 1, 0)",
                (*row, ended),
            )
    clock.now = 90_000.0
    async with started(tmp_path, clock) as log:
        await until(path, "SELECT count(*) FROM runs", lambda count: count == 1)
        assert await listed(log) == ["r2"]


async def test_events_that_take_too_much_room_go_and_their_runs_stay(
    tmp_path: Path, clock: HandClock
) -> None:
    async with started(tmp_path, clock, keep_bytes=50_000, bounds=FORGETFUL) as log:
        for n in range(20):
            tell(log, f"r{n:02}", *words("x" * 5_000), END)
            await told_kept(log, f"r{n:02}")
            clock.now += 1.0
        total = "SELECT sum(length(body)) FROM events"
        await until(tmp_path / FILE, total, lambda size: size <= 50_000)
        assert len(await told_kept(log, "r19")) == 2
        with pytest.raises(EventsExpired, match="Event 1 of run 'r00'"):
            await told_kept(log, "r00")
        assert len(await listed(log)) == 20
        found = await log.reserve(record("r00"))
        assert isinstance(found, RunRecord)
        assert (found.status, found.last_seq) == (RunStatus.FINISHED, 2)
