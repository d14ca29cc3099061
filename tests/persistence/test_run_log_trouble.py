"""The durable run log under difficulties: a full disk, a damaged file, an end too soon."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.live_logs import Bounds
from opensoul.adapters.persistence.sqlite.runs import flusher as sqlite_run_log_keeper
from opensoul.adapters.persistence.sqlite.runs.run_events import SqliteRunEvents
from opensoul.adapters.persistence.sqlite.schema import open_database
from opensoul.domain.errors import StoreFailed
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.events import Started
from opensoul.domain.runs.records import RunQuery, RunRecord, RunStatus

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
from .test_sqlite_writer import files_no_longer_than


async def failing_kept(log: SqliteRunEvents) -> None:
    with pytest.raises(StoreFailed, match="The run log cannot be written"):
        await asyncio.wait_for(told_kept(log), 10)


async def test_a_full_disk_stops_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with started(tmp_path) as log:
        tell(log, "s", *words("a"))
        await told_kept(log, "s", until=1)
        caplog.set_level(logging.WARNING)
        with files_no_longer_than(0):
            tell(log, "r", *words("a"))
            for _ in range(3):
                log.put("r", TextDelta("b"))
                await failing_kept(log)
            with pytest.raises(StoreFailed):
                await log.reserve(record("x"))
            told = await anext(log.follow("r"))
            assert (told.first, told.last) == (1, 4)
        log.put("r", END)
        assert texts(await told_kept(log)) == "abbb"
        assert await log.reserve(record("x")) is None
        log.put("s", END)
        assert len(await told_kept(log, "s")) == 2
    assert caplog.messages == [
        "the run log cannot be written",
        "the run log cannot be written: it works again",
    ]
    async with started(tmp_path) as log:
        assert texts(await told_kept(log)) == "abbb"


async def test_an_end_that_could_not_be_kept_at_once_is_kept_later(tmp_path: Path) -> None:
    async with started(tmp_path, bounds=FORGETFUL) as log:
        tell(log, "r", *words("a"))
        await told_kept(log, until=1)
        with files_no_longer_than(0):
            log.put("r", TextDelta("b"))
            following = asyncio.create_task(told_kept(log, after=1))
            await asyncio.sleep(0)
            log.put("r", END)
            with pytest.raises(StoreFailed, match="cannot be written"):
                await following
            assert (await found(log, "r")).status is RunStatus.FINISHED
        assert texts(await told_kept(log)) == "ab"
    async with started(tmp_path) as log:
        assert await log.unfinished() == ()
        assert (await found(log, "r")).last_seq == 3


async def found(log: SqliteRunEvents, run_id: str) -> RunRecord:
    run = await log.find(run_id)
    assert run is not None
    return run


async def standing(log: SqliteRunEvents) -> dict[str, RunStatus]:
    """How the Runs stand, after checking that a list says the same of each as a look at it."""
    listed: dict[str, RunStatus] = {}
    cursor = None
    while True:
        page = await log.list(RunQuery(limit=100, cursor=cursor))
        listed |= {run.id: run.status for run in page.runs}
        cursor = page.next_cursor
        if cursor is None:
            break
    for run_id, status in listed.items():
        assert (await found(log, run_id)).status is status
    running = await log.list(RunQuery(limit=1_000, status=RunStatus.RUNNING))
    wanted = {run_id for run_id, status in listed.items() if status is RunStatus.RUNNING}
    assert {run.id for run in running.runs} == wanted
    return listed


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full(_: Path) -> Iterator[None]:
    with files_no_longer_than(0):
        yield


@pytest.mark.parametrize("trouble", [locked, full])
@pytest.mark.parametrize("bytes_waiting", [10**9, 1_000])
async def test_no_run_stays_running_whose_end_could_not_be_kept(
    tmp_path: Path,
    trouble: Callable[[Path], AbstractContextManager[None]],
    bytes_waiting: int,
) -> None:
    ids = [f"r{n:03}" for n in range(600)]
    memory = Bounds(finished=100, finished_bytes=bytes_waiting)
    async with started(tmp_path, bounds=memory) as log:
        for run_id in ids:
            tell(log, run_id, Started(0.0, 0.0), *words("some words"))
        tell(log, "alive", Started(0.0, 0.0))
        for run_id in (*ids, "alive"):
            await told_kept(log, run_id, until=1)
        with trouble(tmp_path / FILE):
            for run_id in ids:
                log.put(run_id, *words(" more" * 20), END)
            if trouble is full:
                with pytest.raises(StoreFailed):
                    await told_kept(log, ids[0], after=3)
                assert (log.trouble() or "").startswith("The run log cannot be written: ")
            status = dict.fromkeys(ids, RunStatus.FINISHED) | {"alive": RunStatus.RUNNING}
            assert await standing(log) == status
        end = "SELECT count(*) FROM runs WHERE status = 'finished'"
        await until(tmp_path / FILE, end, lambda count: count == len(ids))
        assert await standing(log) == status
        for run_id in (ids[0], ids[-1]):
            *_, last = await told_kept(log, run_id, after=3)
            assert last.event == END
        assert log.trouble() is None
    async with started(tmp_path) as log:
        assert [run.id for run in await log.unfinished()] == ["alive"]


async def test_runs_that_wait_for_the_file_take_little_memory_each(tmp_path: Path) -> None:
    memory = Bounds(finished=10, finished_bytes=100_000)
    async with started(tmp_path, bounds=memory) as log:
        with files_no_longer_than(0):
            for n in range(300):
                tell(log, f"r{n}", *words("x" * 10_000), END)
                if n % 100 == 0:
                    with pytest.raises(StoreFailed):
                        await told_kept(log, f"r{n}")
            opened = log._require()
            assert len(opened.keeper.unkept) == 300
            assert sum(waiting.size for waiting in opened.keeper.unkept.values()) < 400_000
        await told_kept(log, "r299")


async def test_no_run_begins_while_too_many_wait_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_run_log_keeper, "MOST_UNKEPT", 20)
    async with started(tmp_path, bounds=FORGETFUL) as log:
        with files_no_longer_than(0):
            for n in range(20):
                tell(log, f"r{n}", END)
            with pytest.raises(StoreFailed, match="20 runs wait for the run log"):
                log.open(record("one more"))
            with pytest.raises(StoreFailed, match="20 runs wait for the run log"):
                await log.reserve(record("one more"))
            again = await log.reserve(record("r7"))
            assert again is not None
            with pytest.raises(StoreFailed):
                await told_kept(log, "r3")
        with suppress(StoreFailed):  # A write that began under the limit may fail after it.
            await told_kept(log, "r3")
        await told_kept(log, "r3")
        await until(tmp_path / FILE, "SELECT count(*) FROM runs", lambda count: count == 20)
        tell(log, "one more", END)


async def test_a_reservation_that_is_left_on_the_disk_is_not_listed(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        await log.reserve(record("r"))
        with files_no_longer_than(0):
            await log.release("r")
        assert await log.find("r") is None
        assert await listed(log) == []


async def test_nobody_remains_of_a_reservation_given_up_while_the_log_closes(
    tmp_path: Path,
) -> None:
    async with started(tmp_path) as log:
        asking = asyncio.create_task(log.reserve(record("r")))
        await asyncio.sleep(0)
        closing_down = asyncio.create_task(log.close())
        await asyncio.sleep(0)
        asking.cancel()
        await closing_down
    async with started(tmp_path) as log:
        assert [run.id for run in await log.unfinished()] in (["r"], [])


async def test_a_reservation_that_cannot_be_taken_back_on_the_disk_is_free_all_the_same(
    tmp_path: Path,
) -> None:
    async with started(tmp_path) as log:
        await log.reserve(record("r"))
        with files_no_longer_than(0):
            await log.release("r")
        assert await log.reserve(record("r", fingerprint="again")) is None
    assert rows(tmp_path / FILE, "SELECT fingerprint FROM runs") == [("again",)]


async def test_a_run_whose_id_is_taken_in_the_file_spoils_no_other(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        tell(log, "r", END)
    async with started(tmp_path) as log:
        tell(log, "r", *words("a"))
        tell(log, "s", END)
        with pytest.raises(StoreFailed, match="UNIQUE"):
            await told_kept(log)
        assert len(await told_kept(log, "s")) == 1


async def test_who_follows_when_the_log_closes_is_told_so(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        tell(log, "r", *words("a"))
        following = asyncio.create_task(told_kept(log))
        await told_kept(log, until=1)
    with pytest.raises(StoreFailed, match="closed"):
        await following
    for use in (log.find("r"), log.reserve(record("x")), log.list(RunQuery()), log.release("r")):
        with pytest.raises(StoreFailed, match="not open"):
            await use
    with pytest.raises(StoreFailed, match="not open"):
        log.open(record("x"))
    with pytest.raises(StoreFailed, match="not open"):
        log.follow_kept("r")


async def test_the_file_of_another_store_is_refused(tmp_path: Path) -> None:
    open_database(tmp_path / FILE).close()
    with pytest.raises(StoreFailed, match="another program"):
        await SqliteRunEvents(tmp_path / FILE, clock=HandClock()).start()


async def test_damaged_events_are_told_to_who_follows_them(tmp_path: Path) -> None:
    async with started(tmp_path) as log:
        tell(log, "r", *words("a"), END)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("UPDATE events SET body = '[[7]]' WHERE last_seq = 2")
    async with started(tmp_path) as log:
        with pytest.raises(StoreFailed, match="The run log cannot be read: a stored event"):
            await told_kept(log)


@pytest.mark.parametrize(
    "damage",
    [
        "status = 'odd'",
        "status = x'ff'",
        "on_leave = 'odd'",
        "session_key = 'no key'",
        "session_key = x'ff'",
        "agent_id = CAST(x'ff' AS TEXT)",
        "fingerprint = x'ff'",
        "source = x'ff'",
        "accepted_at = 'yesterday'",
        "started_at = 9e999",
        "ended_at = 'yesterday'",
        "last_seq = 'many'",
        "ended_at = NULL, status = 'odd'",
        "ended_at = NULL, session_key = x'ff'",
    ],
)
async def test_a_damaged_run_keeps_no_other_from_being_listed_nor_the_log_from_starting(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(tmp_path) as log:
        tell(log, "r", *words("a"), END)
        tell(log, "s", END)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute(f"UPDATE runs SET {damage} WHERE id = 's'")  # noqa: S608
    async with started(tmp_path) as log:
        for _ in range(2):
            listed = await log.list(RunQuery())
            assert {run.id for run in listed.runs} == {"r", "s"}
        found = await log.find("s")

    assert found is not None
    assert [(r.__dict__["place"], r.__dict__["cell"]) for r in caplog.records] == [
        ("s", damage.rpartition(", ")[2].partition(" ")[0])
    ]
