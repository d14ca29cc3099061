"""Writing under difficulties: bad turns among good ones, a full disk, a file somebody holds."""

from __future__ import annotations

import asyncio
import math
import resource
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.persistence.sqlite.schema import open_database
from opensoul.adapters.persistence.sqlite.sessions.insert_turns import INCOMING, append_turns
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.adapters.persistence.sqlite.writer import GroupWriter
from opensoul.domain.errors import StoreFailed
from opensoul.domain.messages import Message
from opensoul.domain.ports import Turn

from .building import KEY, answer, make_turn, question

PLENTY = 10_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, check_timeout=0.2)
    await store.open()
    yield store
    await store.close()


async def stored(store: SqliteStore) -> tuple[Message, ...]:
    session = await store.load(KEY, PLENTY)
    return session.tail.messages if session is not None else ()


def big_turn(run_id: str) -> Turn:
    return make_turn(run_id, question("x" * 200_000), answer("y" * 200_000))


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """What a full disk is to the process: writes beyond that size fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def remove(path: Path, *, put_back: bool) -> None:
    """Delete the file, and perhaps put a copy in its place."""
    copy = path.read_bytes()
    path.unlink()
    if put_back:
        path.write_bytes(copy)


async def test_one_bad_turn_does_not_spoil_those_committed_with_it(store: SqliteStore) -> None:
    turns = [make_turn(f"r{n}", at=math.nan if n == 5 else 1_000.0) for n in range(10)]
    results = await asyncio.gather(*map(store.append, turns), return_exceptions=True)
    (failure,) = [result for result in results if result is not None]
    assert isinstance(failure, StoreFailed)
    assert "NOT NULL" in failure.message
    assert isinstance(failure.__cause__, sqlite3.IntegrityError)
    assert results[5] is failure
    assert await stored(store) == tuple(
        message for turn in turns if turn.at == 1_000.0 for message in turn.messages
    )


async def test_waiting_turns_share_a_commit(path: Path) -> None:
    connection = open_database(path, own=INCOMING)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    writer = GroupWriter(connection)
    await asyncio.gather(
        *(writer.submit_batched(append_turns, make_turn(f"r{n}")) for n in range(200))
    )
    await writer.close()
    assert statements.count("COMMIT") < 100


async def test_a_fault_in_the_work_itself_reaches_who_asked_for_it(path: Path) -> None:
    def stumble(connection: sqlite3.Connection) -> None:
        raise ZeroDivisionError("a bug")

    writer = GroupWriter(open_database(path, own=INCOMING))
    good = writer.submit_batched(append_turns, make_turn("r1"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await writer.submit(stumble)
    await good
    await writer.close()
    await writer.close()
    with pytest.raises(StoreFailed, match="closed"):
        writer.submit(stumble)


async def test_work_that_raises_what_no_future_takes_does_not_hold_up_the_others(
    path: Path,
) -> None:
    def stop(connection: sqlite3.Connection) -> None:
        raise StopIteration

    writer = GroupWriter(open_database(path, own=INCOMING))
    results = await asyncio.wait_for(
        asyncio.gather(
            writer.submit(stop),
            writer.submit_batched(append_turns, make_turn("r1")),
            return_exceptions=True,
        ),
        10,
    )
    await writer.close()

    assert isinstance(results[0], RuntimeError)
    assert results[1]


class ForgetfulConnection(sqlite3.Connection):
    """Runs out of memory at the first transaction that it is asked for."""

    ran_out = False

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "BEGIN IMMEDIATE" and not self.ran_out:
            self.ran_out = True
            raise MemoryError
        return super().execute(sql, *parameters)


async def test_a_fault_of_the_writer_itself_fails_one_group_and_not_the_later_ones(
    path: Path,
) -> None:
    open_database(path, own=INCOMING).close()
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=ForgetfulConnection
    )
    for statement in INCOMING:
        connection.execute(statement)
    writer = GroupWriter(connection)

    with pytest.raises(MemoryError):
        await asyncio.wait_for(writer.submit_batched(append_turns, make_turn("r1")), 10)
    assert await asyncio.wait_for(writer.submit_batched(append_turns, make_turn("r2")), 10)
    await writer.close()


async def test_a_full_database_fails_what_does_not_fit_and_then_goes_on(path: Path) -> None:
    connection = open_database(path, own=INCOMING)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    writer = GroupWriter(connection)
    turns = [make_turn("small-1"), big_turn("big"), make_turn("small-2")]
    results = await asyncio.gather(
        *(writer.submit_batched(append_turns, turn) for turn in turns),
        return_exceptions=True,
    )
    assert results[0]
    assert isinstance(results[1], StoreFailed)
    assert "full" in results[1].message
    assert results[2]
    await writer.submit(lambda writing: writing.execute("PRAGMA max_page_count = 100000").close())
    await writer.submit_batched(append_turns, turns[1])
    await writer.close()
    with closing(sqlite3.connect(path)) as reading:
        stored_runs = reading.execute("SELECT run_id FROM turns ORDER BY number").fetchall()
    assert stored_runs == [("small-1",), ("small-2",), ("big",)]


async def test_a_full_disk_is_told_until_there_is_room_again(store: SqliteStore) -> None:
    await store.append(make_turn("r1"))
    with files_no_longer_than(300_000):
        with pytest.raises(StoreFailed, match="cannot be written"):
            await store.append(big_turn("r2"))
        await store.check()
        assert await stored(store) == make_turn("r1").messages
    with files_no_longer_than(0):
        with pytest.raises(StoreFailed, match="cannot be written"):
            await store.append(make_turn("r3"))
        with pytest.raises(StoreFailed, match="cannot be written"):
            await store.check()
        with pytest.raises(StoreFailed, match="cannot be written"):
            await store.check_writable()
    await store.check_writable()
    await store.check()
    await store.append(make_turn("r4"))
    assert await stored(store) == make_turn("r1").messages + make_turn("r4").messages


async def test_a_file_that_someone_else_holds_makes_the_store_unfit(
    store: SqliteStore, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.append(make_turn("r1")))
        with pytest.raises(StoreFailed, match="did not answer within"):
            await store.check()
        other.execute("ROLLBACK")
    await waiting
    assert await stored(store) == make_turn("r1").messages


async def test_a_file_held_for_too_long_fails_all_who_wait(path: Path) -> None:
    connection = open_database(path, own=INCOMING)
    connection.execute("PRAGMA busy_timeout = 1")
    writer = GroupWriter(connection)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        results = await asyncio.gather(
            *(writer.submit_batched(append_turns, make_turn(f"r{n}")) for n in range(20)),
            return_exceptions=True,
        )
    assert {type(result) for result in results} == {StoreFailed}
    assert writer.failing
    await writer.submit_batched(append_turns, make_turn("r0"))
    assert not writer.failing
    await writer.close()


@pytest.mark.parametrize("put_back", [False, True])
async def test_a_file_deleted_under_the_store_makes_it_unfit(
    store: SqliteStore, path: Path, put_back: bool
) -> None:
    remove(path, put_back=put_back)
    with pytest.raises(StoreFailed, match="cannot be read"):
        await store.check()


async def test_closing_with_a_full_disk_keeps_what_was_committed(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1"))
    with files_no_longer_than(0):
        await store.close()
    await store.open()
    assert await stored(store) == make_turn("r1").messages
    await store.close()


def test_a_loop_that_ended_does_not_stop_the_writer(path: Path) -> None:
    async def submit_and_leave() -> GroupWriter:
        writer = GroupWriter(open_database(path, own=INCOMING))
        holder.execute("BEGIN IMMEDIATE")
        writer.submit_batched(append_turns, make_turn("r1"))
        return writer

    open_database(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        loop = asyncio.new_event_loop()
        writer = loop.run_until_complete(submit_and_leave())
        loop.close()
    asyncio.run(writer.close())
    with closing(sqlite3.connect(path)) as reading:
        assert reading.execute("SELECT run_id FROM turns").fetchall() == [("r1",)]


async def test_a_directory_that_is_gone_is_known_before_a_turn(path: Path) -> None:
    place = path.parent / "place"
    store = SqliteStore(place / "sessions.sqlite3")
    await store.open()
    await store.check_writable()
    shutil.rmtree(place)
    await asyncio.sleep(0)  # It is known in the next turn of the event loop.
    with pytest.raises(StoreFailed, match=r"cannot be written: .* was deleted or moved"):
        await store.check_writable()
    await store.close()
