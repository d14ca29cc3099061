"""The contract of KeyBook, in memory, in SQLite and in PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from opensoul.adapters.persistence.memory import MemoryKeys
from opensoul.adapters.persistence.postgres import PostgresKeys
from opensoul.adapters.persistence.sqlite.keys import SqliteKeys
from opensoul.domain.access import Scope
from opensoul.domain.api_keys import ApiKey, KeyLimits, KeyUsage
from opensoul.domain.errors import StoreFailed
from opensoul.domain.ports import KeyBook

from .postgres_stores import opened_database

FULL = ApiKey(
    "key_1",
    "w\u00e9b",
    "d" * 64,
    1.5,
    frozenset({Scope.READ, Scope.WRITE}),
    frozenset({"main", "guide"}),
    KeyLimits(1, 2, 3, 4, 5.5),
    expires_at=9.25,
    rotated_at=7.0,
)
PLAIN = ApiKey("key_2", "plain", "e" * 64)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def book(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyBook]:
    match request.param:
        case "memory":
            yield MemoryKeys()
        case "sqlite":
            yield SqliteKeys(tmp_path / "keys.sqlite3")
        case _:
            async with opened_database(request.getfixturevalue("emptied_postgres")) as database:
                yield PostgresKeys(database)


async def test_keys_are_kept_and_replaced(book: KeyBook) -> None:
    assert await book.load() == ()
    await book.save(FULL)
    await book.save(PLAIN)
    assert {key.id: key for key in await book.load()} == {"key_1": FULL, "key_2": PLAIN}
    revoked = ApiKey("key_2", "plain", "", revoked_at=3.0)
    await book.save(revoked)
    assert {key.id: key for key in await book.load()} == {"key_1": FULL, "key_2": revoked}
    await book.close()


async def test_usage_is_added_by_key_and_day(book: KeyBook) -> None:
    first = KeyUsage("b", "2027-01-15", 1, 1, 2, 3, 1, 0.5, 0)
    others = (KeyUsage("a", "2027-01-16"), KeyUsage("b", "2027-01-16", 4))
    assert await book.usage("") == ()
    assert await book.add_usage((first, *others)) == (first, *others)
    assert await book.usage("") == (first, *others)
    assert await book.usage("2027-01-16") == others
    total = KeyUsage("b", "2027-01-15", 3, 3, 6, 9, 3, 1.5, 1)
    assert await book.add_usage((KeyUsage("b", "2027-01-15", 2, 2, 4, 6, 2, 1.0, 1),)) == (total,)
    assert (await book.usage(""))[0] == total
    await book.close()


async def test_the_file_outlives_the_process_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.sqlite3"
    book = SqliteKeys(path)
    await book.load()
    assert not path.exists()  # Nobody has a key.
    await book.save(FULL)
    await book.close()
    assert path.stat().st_mode & 0o077 == 0
    again = SqliteKeys(path)
    assert await again.load() == (FULL,)
    await again.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
async def test_a_damaged_file_is_reported_and_not_changed(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "keys.sqlite3"
    book = SqliteKeys(path)
    await book.save(FULL)
    await book.close()
    if content is not None:
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE keys SET record = '{}'")
    before = path.read_bytes()
    with pytest.raises(StoreFailed, match=r"damaged|cannot be read"):
        await SqliteKeys(path).load()
    assert path.read_bytes() == before


async def test_a_process_alone_has_nothing_newer_than_its_own(book: KeyBook) -> None:
    assert await book.load() == ()
    assert await book.save(FULL)
    assert await book.newer() is None
    assert await book.usage_of("b", "") == ()
    await book.add_usage((KeyUsage("a", "2027-01-15", 1), KeyUsage("b", "2027-01-15", 2)))
    assert await book.usage_of("b", "2027-01-15") == (KeyUsage("b", "2027-01-15", 2),)
    assert await book.usage_of("b", "2027-01-16") == ()
    await book.close()


async def test_a_process_does_not_save_over_what_another_one_has_saved_in_postgres(
    emptied_postgres: str,
) -> None:
    async with opened_database(emptied_postgres) as database:
        one, other = PostgresKeys(database), PostgresKeys(database)
        for book in (one, other):
            await book.load()
        saved = await asyncio.gather(one.save(FULL), other.save(PLAIN))
        assert sorted(saved) == [False, True]
        late = (one, other)[saved.index(False)]
        kept = (FULL, PLAIN)[saved.index(True)]
        assert await late.newer() == (kept,)
        assert await late.newer() is None
        assert await late.save(PLAIN)
        # Also what a version of this program changed that knows no versions of the keys.
        await database.execute("DELETE FROM api_keys")
        for book in (one, other):
            assert not await book.save(FULL)
            assert await book.newer() == ()
