"""The durable run log under difficulties: a full disk, a damaged file, an end too soon."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from opensoul.adapters.stores.sqlite_run_log import SqliteRunLog
from opensoul.adapters.stores.sqlite_schema import open_database
from opensoul.domain.errors import StoreFailed
from opensoul.domain.model_calls import TextDelta
from opensoul.domain.run_records import RunQuery

from .run_logs import (
    END,
    FILE,
    FORGETFUL,
    HandClock,
    record,
    rows,
    started,
    tell,
    texts,
    told_kept,
    words,
)
from .test_sqlite_writer import files_no_longer_than


async def failing_kept(log: SqliteRunLog) -> None:
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
                log.append("r", TextDelta("b"))
                await failing_kept(log)
            with pytest.raises(StoreFailed):
                await log.reserve(record("x"))
            told = await anext(log.follow("r"))
            assert (told.first, told.last) == (1, 4)
        log.append("r", END)
        assert texts(await told_kept(log)) == "abbb"
        assert await log.reserve(record("x")) is None
        log.append("s", END)
        assert len(await told_kept(log, "s")) == 2
    assert caplog.messages == ["events of runs cannot be kept", "events of runs are kept again"]
    async with started(tmp_path) as log:
        assert texts(await told_kept(log)) == "abbb"


async def test_an_end_that_could_not_be_kept_is_told_as_such(tmp_path: Path) -> None:
    async with started(tmp_path, bounds=FORGETFUL) as log:
        tell(log, "r", *words("a"))
        await told_kept(log, until=1)
        with files_no_longer_than(0):
            log.append("r", TextDelta("b"))
            following = asyncio.create_task(told_kept(log, after=1))
            await asyncio.sleep(0)
            log.append("r", END)
            with pytest.raises(StoreFailed, match="cannot be written"):
                await following
        with pytest.raises(StoreFailed, match="How run 'r' ended could not be kept"):
            await told_kept(log)
    async with started(tmp_path) as log:
        (left,) = await log.unfinished()
        assert (left.id, left.last_seq) == ("r", 1)


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
        await SqliteRunLog(tmp_path / FILE, clock=HandClock()).start()


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
        "door = x'ff'",
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
