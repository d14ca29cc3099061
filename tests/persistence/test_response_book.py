"""What every ResponseBook promises. A new one is one more entry in BOOKS."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.persistence.memory import MemoryResponses
from opensoul.adapters.persistence.postgres.sessions import PostgresResponses
from opensoul.adapters.persistence.sqlite.schema import MIGRATIONS
from opensoul.adapters.persistence.sqlite.sessions import SqliteResponses, SqliteStore
from opensoul.domain.errors import ConversationTooLarge
from opensoul.domain.ports import ResponseBook
from opensoul.domain.responses import (
    CONVERSATION_BYTES,
    Conversation,
    ConversationBounds,
    ItemQuery,
    Json,
    StoredResponse,
)
from opensoul.domain.sessions import SessionKey

from .postgres_stores import opened_database

BOOKS: dict[str, Callable[[SqliteStore], ResponseBook]] = {
    "memory": lambda _: MemoryResponses(),
    "sqlite": SqliteResponses,
}
KEY = SessionKey("main", "openai:a")
TALK = Conversation("conv_1", "ann", 5.0, {"topic": "demo"})
PLENTY = 1_000_000


@pytest.fixture(params=[*BOOKS, "postgres"])
async def book(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ResponseBook]:
    if request.param == "postgres":
        async with opened_database(request.getfixturevalue("emptied_postgres")) as database:
            yield PostgresResponses(database)
        return
    store = SqliteStore(tmp_path / "sessions.sqlite3")
    await store.open()
    yield BOOKS[request.param](store)
    await store.close()


def response(name: str, **changes: Any) -> StoredResponse:
    made = StoredResponse(
        id=f"resp_{name}",
        run_id=name,
        principal_id="ann",
        agent_id="main",
        session_key=KEY,
        created_at=10.0,
        body={"model": "opensoul", "tools": [{"type": "function"}], "temperature": 0.5},
        input=({"id": "msg_1", "content": "half a pair: \ud83d"},),
        turn_of=name,
    )
    return replace(made, **changes)


def items(*names: str) -> list[Json]:
    return [{"id": name, "type": "message"} for name in names]


async def listed(book: ResponseBook, **query: Any) -> list[str]:
    page = await book.items("conv_1", ItemQuery(**{"newest_first": False, **query}))
    assert page is not None
    return [str(item["id"]) for item in page.items]


async def test_a_response_comes_back_as_it_was(book: ResponseBook) -> None:
    whole = response("a", one_off=True, background=True, conversation="conv_1", settled=False)
    await book.put(whole)

    assert await book.find("resp_a") == whole
    assert await book.find("resp_b") is None


async def test_the_first_of_an_id_stays(book: ResponseBook) -> None:
    await book.put(response("a"))
    await book.put(response("a", body={}))

    assert await book.find("resp_a") == response("a")


async def test_a_deleted_response_is_unknown(book: ResponseBook) -> None:
    await book.put(response("a"))
    await book.put(response("b"))
    assert await book.count_of(KEY) == 2

    assert await book.delete("resp_a")
    assert not await book.delete("resp_a")

    assert await book.find("resp_a") is None
    assert await book.count_of(KEY) == 1
    assert await book.count_of(SessionKey("main", "other")) == 0


async def test_old_responses_are_pruned_unless_they_are_unsettled(book: ResponseBook) -> None:
    await book.put(response("old", created_at=1.0))
    await book.put(response("open", created_at=1.0, conversation="conv_1", settled=False))
    await book.put(response("new", created_at=2.0))

    assert await book.prune(None, PLENTY) == 0
    assert await book.prune(2.0, PLENTY) == 1

    found = [await book.find(f"resp_{name}") for name in ("old", "open", "new")]
    assert [one is not None for one in found] == [False, True, True]


async def test_the_oldest_are_pruned_where_all_take_too_much(book: ResponseBook) -> None:
    for number in range(5):
        big = {"text": "x" * 1_000}
        await book.put(response(str(number), created_at=float(-number), body=big))

    assert await book.prune(None, 3_000) == 3

    found = [await book.find(f"resp_{number}") for number in range(5)]
    assert [one is not None for one in found] == [True, True, False, False, False]


async def test_a_conversation_comes_back_as_it_was(book: ResponseBook) -> None:
    await book.begin(TALK, items("a", "b"))

    assert await book.conversation("conv_1") == TALK
    assert await listed(book) == ["a", "b"]
    assert await book.item("conv_1", "b") == items("b")[0]
    assert await book.item("conv_1", "c") is None
    assert await book.conversation("conv_2") is None


async def test_its_metadata_is_replaced(book: ResponseBook) -> None:
    await book.begin(TALK, ())

    assert await book.set_metadata("conv_1", {"new": "one"})
    assert not await book.set_metadata("conv_2", {})

    assert await book.conversation("conv_1") == replace(TALK, metadata={"new": "one"})


async def test_a_deleted_conversation_has_no_items(book: ResponseBook) -> None:
    await book.begin(TALK, items("a"))

    assert await book.end("conv_1")
    assert not await book.end("conv_1")

    assert await book.conversation("conv_1") is None
    assert await book.item("conv_1", "a") is None
    assert await book.add("conv_1", items("b")) == 0
    assert await listed(book) == []


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        ({}, "abcde", False),
        ({"newest_first": True}, "edcba", False),
        ({"limit": 2}, "ab", True),
        ({"limit": 2, "after": "b"}, "cd", True),
        ({"limit": 2, "after": "c"}, "de", False),
        ({"limit": 2, "after": "c", "newest_first": True}, "ba", False),
        ({"after": "e"}, "", False),
    ],
)
async def test_items_are_listed_by_pages(
    book: ResponseBook, query: dict[str, Any], expected: str, more: bool
) -> None:
    await book.begin(TALK, items(*"abc"))
    assert await book.add("conv_1", items("d", "e", "a")) == 5

    page = await book.items("conv_1", ItemQuery(**{"newest_first": False, **query}))

    assert page is not None
    assert "".join(str(item["id"]) for item in page.items) == expected
    assert page.has_more == more


async def test_there_is_no_page_behind_an_unknown_item(book: ResponseBook) -> None:
    await book.begin(TALK, items("a"))

    assert await book.items("conv_1", ItemQuery(after="b")) is None


async def test_an_item_is_taken_out(book: ResponseBook) -> None:
    await book.begin(TALK, items("a", "b"))

    assert await book.remove("conv_1", "a")
    assert not await book.remove("conv_1", "a")

    assert await listed(book) == ["b"]


async def test_a_response_is_settled_once(book: ResponseBook) -> None:
    await book.begin(TALK, ())
    open_one = response("a", conversation="conv_1", settled=False)
    await book.put(open_one)
    assert await book.unsettled("conv_1") == (open_one,)

    await asyncio.gather(
        *(book.add("conv_1", items(name), settles="resp_a") for name in ("one", "two"))
    )

    assert await book.unsettled("conv_1") == ()
    assert await listed(book) in (["one"], ["two"])
    assert await book.find("resp_a") == replace(open_one, settled=True)


async def test_a_hidden_response_goes_when_it_is_settled(book: ResponseBook) -> None:
    await book.begin(TALK, ())
    await book.put(response("a", conversation="conv_1", settled=False, hidden=True))

    await book.add("conv_1", items("a"), settles="resp_a")

    assert await book.find("resp_a") is None
    assert await listed(book) == ["a"]


async def test_what_is_kept_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    store = SqliteStore(path)
    await store.open()
    book = SqliteResponses(store)
    await book.put(response("a"))
    await book.begin(TALK, items("a"))
    await store.close()

    again = SqliteStore(path)
    await again.open()
    book = SqliteResponses(again)

    assert await book.find("resp_a") == response("a")
    assert await book.item("conv_1", "a") == items("a")[0]
    await again.close()


async def sizes(book: ResponseBook, name: str = "conv_1") -> tuple[int, int, int]:
    """Of the conversation, of its principal and of all."""
    found = await book.sizes(name)
    assert found is not None
    assert found.conversation >= CONVERSATION_BYTES
    return found.conversation, found.principal, found.all


async def test_sizes_follow_every_change(book: ResponseBook) -> None:
    await book.begin(TALK, ())
    empty = await sizes(book)
    assert empty == (empty[0],) * 3

    await book.add("conv_1", items("a", "b"))
    await book.add("conv_1", items("a"))
    two = await sizes(book)
    assert two[0] - empty[0] == 2 * len('{"id":"a","type":"message"}')

    await book.set_metadata("conv_1", {"topic": "demonstration"})
    assert (await sizes(book))[0] - two[0] == len("nstration")
    await book.set_metadata("conv_1", TALK.metadata)
    await book.remove("conv_1", "a")
    await book.remove("conv_1", "b")
    assert await sizes(book) == empty
    assert await book.sizes("conv_2") is None


async def test_sizes_are_of_a_principal_and_of_all(book: ResponseBook) -> None:
    await book.begin(TALK, items("a"))
    one = (await sizes(book))[0]
    await book.begin(replace(TALK, id="conv_2"), items("a"))
    await book.begin(replace(TALK, id="conv_3", principal_id="bob"), items("a"))

    assert await sizes(book) == (one, 2 * one, 3 * one)

    await book.end("conv_2")
    assert await sizes(book) == (one, one, 2 * one)


async def test_a_response_that_is_not_settled_counts(book: ResponseBook) -> None:
    await book.begin(TALK, ())
    empty = await sizes(book)
    await book.put(response("a", conversation="conv_1", settled=False, body={"x": "y" * 1000}))

    grown = await sizes(book)
    assert grown == (grown[0],) * 3
    assert grown[0] > empty[0] + 1000
    await book.add("conv_1", (), settles="resp_a")
    assert await sizes(book) == empty


def bounds(size: int, which: str) -> ConversationBounds:
    """Bounds of which one alone can be broken."""
    return replace(ConversationBounds(PLENTY, PLENTY, PLENTY), **{which: size})


@pytest.mark.parametrize("which", ["conversation", "principal", "all"])
async def test_nothing_is_kept_beyond_a_limit(book: ResponseBook, which: str) -> None:
    await book.begin(TALK, items("a"))
    before = await sizes(book)
    limit = bounds(before[0], which)

    with pytest.raises(ConversationTooLarge, match=f"at most {before[0]} bytes") as caught:
        await book.add("conv_1", items("b"), bounds=limit)
    assert caught.value.param == "items"
    with pytest.raises(ConversationTooLarge):
        await book.set_metadata("conv_1", {"topic": "demonstration"}, bounds=limit)
    big = [{"id": "a", "text": "x" * before[0]}]
    with pytest.raises(ConversationTooLarge):
        await book.begin(replace(TALK, id="conv_2"), big, bounds=limit)

    assert await book.conversation("conv_1") == TALK
    assert await book.conversation("conv_2") is None
    assert await listed(book) == ["a"]
    assert await sizes(book) == before
    assert await book.set_metadata("conv_1", TALK.metadata, bounds=limit)


async def test_items_of_an_older_file_count(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await SqliteResponses(store).begin(TALK, items("a", "b"))
    expected = await SqliteResponses(store).sizes("conv_1")
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        for sql in (
            "DROP TRIGGER item_added",
            "DROP TRIGGER item_deleted",
            "DROP INDEX bytes_of_conversations",
            "ALTER TABLE conversations DROP COLUMN bytes",
            f"PRAGMA user_version = {len(MIGRATIONS) - 1}",
        ):
            connection.execute(sql)

    again = SqliteStore(path)
    await again.open()

    assert await SqliteResponses(again).sizes("conv_1") == expected
    await again.close()


async def test_of_several_processes_one_locks_a_conversation_in_postgres(
    emptied_postgres: str,
) -> None:
    async with opened_database(emptied_postgres) as database:
        one, other = PostgresResponses(database), PostgresResponses(database)
        assert sorted(await asyncio.gather(one.lock("conv_1"), other.lock("conv_1"))) == [
            False,
            True,
        ]
        assert await one.lock("conv_2")
        assert not await other.lock("conv_2")
        await other.unlock("conv_2")  # Which is not its own.
        assert not await other.lock("conv_2")
        await one.unlock("conv_2")
        assert await other.lock("conv_2")
        # Its process has died.
        await database.execute("UPDATE conversation_locks SET until = until - 31")
        assert await one.lock("conv_2")


async def test_a_process_locks_again_what_it_has_unlocked(book: ResponseBook) -> None:
    for _ in range(2):
        assert await book.lock("conv_1")
        await book.unlock("conv_1")
