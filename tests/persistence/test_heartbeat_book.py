"""Texts wait for a heartbeat in their order, in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from opensoul.adapters.persistence.memory import MemoryHeartbeats
from opensoul.domain.ports import HeartbeatBook

HALF = "a\ud800\0"


@pytest_asyncio.fixture(params=["memory", "postgres"])
async def book(request: pytest.FixtureRequest) -> AsyncIterator[HeartbeatBook]:
    if request.param == "memory":
        yield MemoryHeartbeats()
        return
    from opensoul.adapters.persistence.postgres import PostgresHeartbeats
    from tests.persistence.postgres_stores import opened_database

    async with opened_database(request.getfixturevalue("emptied_postgres")) as database:
        yield PostgresHeartbeats(database)


async def test_texts_are_taken_once_in_their_order(book: HeartbeatBook) -> None:
    for text in ("one", HALF, "three"):
        assert await book.note(text, 3)
    assert not await book.note("four", 3)
    assert await book.take() == ("one", HALF, "three")
    assert await book.take() == ()


async def test_texts_that_are_put_back_come_first(book: HeartbeatBook) -> None:
    await book.put_back(("b", "c"))
    await book.note("d", 20)
    await book.put_back(())
    await book.put_back(("a",))
    assert await book.take() == ("a", "b", "c", "d")


async def test_heartbeats_are_on_until_they_are_turned_off(book: HeartbeatBook) -> None:
    assert await book.is_on()
    await book.set_last("x")
    assert await book.is_on()
    await book.turn(False)
    await book.set_last("y")
    assert not await book.is_on()
    await book.turn(True)
    assert await book.is_on()


async def test_the_last_one_is_kept(book: HeartbeatBook) -> None:
    assert await book.last() is None
    await book.turn(True)
    assert await book.last() is None
    await book.set_last(HALF)
    assert await book.last() == HALF
