"""The files of a store are deleted, moved, replaced or cut short while it is open."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from opensoul.adapters.persistence.sqlite.files import DatabaseFiles
from opensoul.adapters.persistence.sqlite.readers import Readers
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.errors import StoreFailed

from .building import make_turn

Loss = Callable[[Path], None]
WAL = "-wal"


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for suffix in ("", WAL, "-shm"):
        beside(path, suffix).unlink()


def delete_the_log(path: Path) -> None:
    beside(path, WAL).unlink()


def restore_a_backup(path: Path) -> None:
    backup = path.with_name("backup")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    backup.replace(path)


def put_a_copy_in_its_place(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def move_the_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def delete_the_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


LOSSES = [
    delete,
    delete_all,
    delete_the_log,
    restore_a_backup,
    put_a_copy_in_its_place,
    move_the_directory,
    delete_the_directory,
]
CUTS = [cut_to_nothing, cut_in_half]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "place" / "sessions.sqlite3"


async def opened(path: Path, *, in_file: bool) -> SqliteStore:
    """A store with a turn: in the database itself, or in its write-ahead log still."""
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("before"))
    if in_file:
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        await store.append(make_turn("later"))
    return store


@pytest.mark.parametrize(
    ("lose", "in_file"),
    # What is cut off a database whose pages are all in the log is no loss.
    [
        *((loss, where) for loss in LOSSES for where in (True, False)),
        *((cut, True) for cut in CUTS),
    ],
)
async def test_no_turn_is_acknowledged_that_a_restart_would_lose(
    path: Path, lose: Loss, in_file: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened(path, in_file=in_file)
    lose(path)
    for n in range(20):
        with pytest.raises(StoreFailed, match="session store cannot be"):
            await store.append(make_turn(f"r{n}"))
    with pytest.raises(StoreFailed, match=r"cannot be written: .*Nothing was sent to a model"):
        await store.check_writable()
    with pytest.raises(StoreFailed):
        await store.check()
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert errors.pop(0).message == "the session store cannot be written"
    assert len(errors) <= 1  # The reading side may have said so, too.
    await store.close()


@pytest.mark.parametrize("lose", [delete, restore_a_backup, put_a_copy_in_its_place, cut_in_half])
async def test_it_is_known_before_the_first_turn(path: Path, lose: Loss) -> None:
    store = await opened(path, in_file=True)
    lose(path)
    with pytest.raises(StoreFailed, match="Nothing was sent to a model"):
        await store.check_writable()
    await store.close()


async def test_reading_makes_no_new_file_where_the_old_one_was(path: Path) -> None:
    store = await opened(path, in_file=False)
    readers = Readers(path, 1, files=DatabaseFiles(path))
    delete_all(path)
    for _ in range(2):
        with pytest.raises(StoreFailed, match="was deleted or moved"):
            await readers.run(lambda _: None)
    assert path.name not in os.listdir(path.parent)
    await store.close()
    readers.close()


async def test_a_file_that_is_put_back_is_gone_on_with(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened(path, in_file=True)
    move_the_directory(path)
    for n in range(3):
        with pytest.raises(StoreFailed):
            await store.append(make_turn(f"r{n}"))
    path.parent.with_name("moved").rename(path.parent)
    await store.check_writable()
    await store.append(make_turn("after"))
    await store.check()
    assert caplog.messages[-1] == "the session store cannot be written: it works again"
    assert caplog.records[-1].__dict__["failures"] == 3
    await store.close()
    with closing(sqlite3.connect(path)) as reading:
        runs = {run for (run,) in reading.execute("SELECT run_id FROM turns")}
    assert {"before", "later", "after"} <= runs


async def test_the_log_goes_into_its_own_database_and_not_into_the_backup(path: Path) -> None:
    store = await opened(path, in_file=False)
    aside = path.with_name("aside")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(aside)) as target:
        source.backup(target)
    await store.append(make_turn("after the backup"))
    old = path.with_name("old")
    os.rename(path, old)
    os.rename(aside, path)
    with pytest.raises(StoreFailed):
        await store.append(make_turn("lost"))
    # As a process that is killed leaves them: nothing is tidied up.
    assert beside(path, WAL).stat().st_size == 0
    with closing(sqlite3.connect(old)) as reading:
        assert ("after the backup",) in reading.execute("SELECT run_id FROM turns").fetchall()
    await store.close()
    with closing(sqlite3.connect(path)) as reading:
        assert reading.execute("SELECT run_id FROM turns").fetchall() == [("before",)]
        assert reading.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_log_that_is_deleted_is_saved_at_the_next_turn(path: Path) -> None:
    store = await opened(path, in_file=False)
    delete_the_log(path)
    with pytest.raises(StoreFailed, match="-wal was deleted"):
        await store.append(make_turn("after"))
    copy = path.with_name("copy")
    shutil.copy(path, copy)  # What is left after `kill -9`.
    with closing(sqlite3.connect(copy)) as reading:
        assert ("before",) in reading.execute("SELECT run_id FROM turns").fetchall()
    await store.close()


async def test_programs_beside_the_gateway_may_back_up_and_tidy_up(path: Path) -> None:
    store = await opened(path, in_file=True)
    for n in range(200):
        await store.append(make_turn(f"r{n}"))
    await store.prune_one_off(0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await store.append(make_turn("checkpointed"))
        with closing(sqlite3.connect(path.with_name("backup"))) as target:
            other.backup(target)
        other.execute("DELETE FROM messages WHERE number > 4")
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await store.check_writable()
    await store.append(make_turn("tidied up"))
    await store.check()
    await store.close()
