"""The file of a run log is damaged or lost: it is put aside, and a new one begins."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from opensoul.adapters.persistence.sqlite.runs.run_events import SqliteRunEvents
from opensoul.adapters.persistence.sqlite.runs.schema import RUNS
from opensoul.adapters.persistence.sqlite.schema import open_database
from opensoul.adapters.persistence.sqlite.set_aside import put_aside
from opensoul.domain.errors import StoreFailed
from opensoul.domain.runs.events import Started
from opensoul.domain.runs.records import RunStatus

from .run_logs import (
    END,
    FILE,
    HandClock,
    listed,
    names_in,
    record,
    rows,
    started,
    tell,
    told_kept,
    words,
)

Damage = Callable[[Path], None]
BEGUN = "the run log was damaged or lost, and a new one has begun"


def overwrite_all(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


def overwrite_pages(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(1024)
        file.write(b"\xa5" * (size - 1024))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def delete(path: Path) -> None:
    path.unlink()


def put_another_in_its_place(path: Path) -> None:
    other = path.with_name("other.sqlite3")
    open_database(other, kind=RUNS).close()
    other.replace(path)


def checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("damage", [overwrite_all, overwrite_pages, cut])
async def test_a_damaged_file_does_not_keep_the_gateway_from_starting(
    tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / FILE
    async with started(tmp_path) as log:
        for n in range(20):
            tell(log, f"r{n}", *words("a" * 500), END)
    damage(path)
    content = path.read_bytes()
    async with started(tmp_path) as log:
        assert await listed(log) == []
        tell(log, "new", *words("a"), END)
        assert len(await told_kept(log, "new")) == 2
    (aside,) = put_aside(tmp_path)
    assert aside.name == f"{FILE}.damaged-19700101T001640Z"
    assert aside.read_bytes() == content
    (line,) = [r for r in caplog.records if r.message == BEGUN]
    assert (line.levelno, line.__dict__["kept_as"]) == (logging.ERROR, str(aside))
    async with started(tmp_path) as log:
        assert await listed(log) == ["new"]


@pytest.mark.parametrize(
    "damage", [overwrite_all, overwrite_pages, cut, delete, put_another_in_its_place]
)
async def test_damage_while_the_gateway_runs_loses_nothing_that_is_in_memory(
    tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / FILE
    async with started(tmp_path) as log:
        tell(log, "ended", *words("a" * 5_000), END)
        tell(log, "going", Started(0.0, 0.0), *words("a"))
        await told_kept(log, "ended")
        await told_kept(log, "going", until=2)
        assert await log.reserve(record("reserved")) is None
        checkpoint(path)
        damage(path)
        log.put("going", *words("b"))
        try:
            await told_kept(log, "going", until=3)
        except StoreFailed:  # It depends on the damage whether the first write meets it.
            assert await told_kept(log, "going", until=3)
        while BEGUN not in caplog.messages:
            with pytest.raises(StoreFailed):
                await log.reserve(record("x"))
        again = await log.reserve(record("ended"))
        assert again is not None
        assert again.status is RunStatus.FINISHED
        log.open(record("reserved"))
        log.put("reserved", END)
        log.put("going", END)
        for run_id, count in (("going", 4), ("reserved", 1), ("ended", 2)):
            assert [event.seq for event in await told_kept(log, run_id)] == [*range(1, count + 1)]
        assert sorted(await listed(log)) == ["ended", "going", "reserved"]
        assert f"{FILE}-wal" in names_in(tmp_path)
    assert caplog.messages.count(BEGUN) == 1
    assert sorted(rows(path, "SELECT id, status FROM runs")) == [
        (run_id, "finished") for run_id in ("ended", "going", "reserved")
    ]
    async with started(tmp_path) as log:
        assert await log.unfinished() == ()
        assert len(await told_kept(log, "going")) == 4


async def test_damage_that_only_a_reader_meets_is_found_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / FILE
    async with started(tmp_path) as log:
        for n in range(20):
            tell(log, f"r{n:02}", *words("a" * 5_000), END)
    async with started(tmp_path) as log:
        overwrite_pages(path)
        with pytest.raises(StoreFailed, match="cannot be read"):
            await log.find("r07")
        tell(log, "new", END)
        while BEGUN not in caplog.messages:
            with pytest.raises(StoreFailed):
                await told_kept(log, "new")
        assert len(await told_kept(log, "new")) == 1
        assert await log.find("r07") is None


async def test_a_directory_that_is_moved_away_and_back_is_no_damage(tmp_path: Path) -> None:
    place = tmp_path / "place"
    async with started(place) as log:
        tell(log, "r", *words("a"), END)
        await told_kept(log, "r")
        place.rename(tmp_path / "away")
        tell(log, "s", END)
        with pytest.raises(StoreFailed, match="was deleted or moved"):
            await told_kept(log, "s")
        (tmp_path / "away").rename(place)
        assert len(await told_kept(log, "s")) == 1
        assert sorted(await listed(log)) == ["r", "s"]
    assert put_aside(place) == []


async def test_of_the_files_that_were_put_aside_the_newest_stay(tmp_path: Path) -> None:
    clock = HandClock()
    for n in range(5):
        (tmp_path / FILE).write_text(f"damage {n} " * 100)
        log = SqliteRunEvents(tmp_path / FILE, clock=clock)
        await log.start()
        await log.close()
    assert {path.read_text()[:8] for path in put_aside(tmp_path)} == {
        "damage 2",
        "damage 3",
        "damage 4",
    }
