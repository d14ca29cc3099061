"""The database file: who may read it, which versions it can have, and what is never touched."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from opensoul.adapters.persistence.sqlite.schema import APPLICATION_ID, MIGRATIONS, open_database
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.errors import StoreFailed

from .building import KEY, make_turn

NEWEST = len(MIGRATIONS)


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def layout(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def files_beside(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


async def refusal(path: Path) -> str:
    """Why the store does not open this file, which it leaves as it is."""
    before = content(path)
    with pytest.raises(StoreFailed) as failure:
        await SqliteStore(path).open()
    assert content(path) == before
    assert str(path) in failure.value.message
    return failure.value.message


async def test_only_the_owner_may_read_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "sessions.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1"))
    files = files_beside(path)
    assert files == ["sessions.sqlite3", "sessions.sqlite3-shm", "sessions.sqlite3-wal"]
    assert {stat.S_IMODE(path.with_name(name).stat().st_mode) for name in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await store.close()


async def test_a_closed_store_is_one_file_that_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1"))
    await store.close()
    assert files_beside(path) == [path.name]
    assert pragma(path, "application_id") == APPLICATION_ID
    assert pragma(path, "user_version") == NEWEST


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.sqlite3")
    for n in range(3):
        await store.open()
        await store.append(make_turn(f"r{n}"))
        await store.append(make_turn("r0"))
        await store.close()
    await store.open()
    session = await store.load(KEY, 1_000)
    assert session is not None
    assert session.message_count == 6
    await store.close()


@pytest.mark.parametrize("version", range(NEWEST + 1))
async def test_every_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    fresh, aged = tmp_path / "fresh.sqlite3", tmp_path / "aged.sqlite3"
    open_database(fresh).close()
    open_database(aged, MIGRATIONS[:version]).close()
    assert pragma(aged, "user_version") == version
    store = SqliteStore(aged)
    await store.open()
    await store.append(make_turn("r1"))
    await store.close()
    assert layout(aged) == layout(fresh)
    assert pragma(aged, "user_version") == NEWEST


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    broken = (*MIGRATIONS, ("CREATE TABLE half (x)", "CREATE TABLE sessions (x)"))
    with pytest.raises(StoreFailed, match="table sessions already exists"):
        open_database(path, broken)
    assert pragma(path, "user_version") == NEWEST
    assert "half" not in [name for name, _ in layout(path)]
    mended = (*MIGRATIONS, ("CREATE TABLE whole (x)",))
    open_database(path, mended).close()
    assert pragma(path, "user_version") == NEWEST + 1
    assert "whole" in [name for name, _ in layout(path)]


async def test_a_database_from_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    open_database(path, (*MIGRATIONS, ("CREATE TABLE future (x)",))).close()
    message = await refusal(path)
    assert f"schema version {NEWEST + 1}" in message
    assert f"up to {NEWEST}" in message


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (x)", "PRAGMA application_id = 7", "PRAGMA user_version = 9"]
)
async def test_the_database_of_another_program_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "theirs.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    assert "another program" in await refusal(path)


async def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary. " * 100)
    assert "not a database" in await refusal(path)


async def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    await refusal(tmp_path)
    await refusal(tmp_path / "file" / "sessions.sqlite3")


def test_without_a_write_ahead_log_there_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreFailed, match="does not support SQLite's write-ahead log"):
        open_database(Path(":memory:"))


async def test_no_path_means_a_database_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore(":memory:")
    await store.open()
    await store.close()
    assert files_beside(tmp_path / ":memory:") == [":memory:"]


def overwrite(path: Path) -> None:
    """Put something else behind the first page, which stays."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(file.seek(0, 2) // 2)


@pytest.mark.parametrize("damage", [overwrite, cut])
async def test_a_damaged_file_is_refused_with_what_to_do(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "sessions.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1"))
    await store.close()
    damage(path)
    message = await refusal(path)
    assert "is damaged: database disk image is malformed" in message
    assert "restore a backup" in message


async def test_damage_inside_the_file_is_told_not_mended(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1"))
    await store.close()
    await store.open()
    overwrite(path)
    with pytest.raises(StoreFailed, match=r"cannot be read.*malformed"):
        await store.load(KEY, 1_000)
    with pytest.raises(StoreFailed, match=r"cannot be written.*malformed"):
        await store.append(make_turn("r2"))
    with pytest.raises(StoreFailed):
        await store.check()
    with pytest.raises(StoreFailed, match=r"malformed\. Nothing was sent .* restore a backup"):
        await store.check_writable()
    await store.close()
