"""The catalog in the database file: old files, what a list costs, and who writes at once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from math import inf
from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.codec import encode
from opensoul.adapters.persistence.common.damage import DamageLog
from opensoul.adapters.persistence.sqlite.schema import MIGRATIONS, open_database
from opensoul.adapters.persistence.sqlite.sessions.catalog import (
    find_by_id,
    find_session,
    list_sessions,
)
from opensoul.adapters.persistence.sqlite.sessions.insert_turns import INCOMING, append_turns
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.domain.errors import StoreFailed
from opensoul.domain.ports import StoredSession, Transcript
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.records import PeriodUsage, SessionInfo, SessionQuery, UsageQuery

from .building import KEY, answer, make_turn, question

PLENTY = 1_000_000
MANY = 4_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


def write_version_1(path: Path) -> None:
    """A file as the first version left it: two transcripts of one id, and one without usage."""
    said = (question("then"), answer("yes"))
    with closing(open_database(path, MIGRATIONS[:1])) as connection:
        connection.execute("INSERT INTO sessions VALUES (1, ?, 'main', 1.0, 9.0, 0)", (str(KEY),))
        for transcript, session_id in enumerate(("first", "second", "first"), 1):
            connection.execute(
                "INSERT INTO transcripts VALUES (?, 1, ?, ?, 2, 2)",
                (transcript, session_id, float(transcript)),
            )
            for turn, usage in enumerate(((3, 4, 0, 1, 0), (None,) * 5), 1):
                fact = (transcript, turn, f"r{transcript}{turn}", 5.0, f"demo/{turn}", *usage)
                connection.execute(
                    "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)", (*fact, turn)
                )
                connection.execute(
                    "INSERT INTO messages VALUES (?, ?, 6, ?, ?)",
                    (transcript, turn, said[turn - 1].role.value, encode(said[turn - 1])),
                )


async def test_a_page_of_large_messages_has_only_as_many_as_fit(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    for n in range(4):
        large = (question(f"{n}" * 5_000_000), answer("small"))
        await store.append(make_turn(f"r{n}", *large))
    numbers, before = [], None
    while page := await store.messages(KEY, limit=50, before=before):
        assert sum(len(kept.message.text) for kept in page) < 15_000_000
        numbers.append([kept.number for kept in page])
        before = page[0].number
    await store.close()
    assert numbers == [[5, 6, 7, 8], [1, 2, 3, 4]]


async def test_a_file_of_the_first_version_has_a_catalog(path: Path) -> None:
    write_version_1(path)
    store = SqliteStore(path)
    await store.open()
    info = SessionInfo(KEY, "first", 1.0, 9.0, 2, 3, 4, "demo/2")
    assert (await store.list(SessionQuery(search="FIRST"))).sessions == (info,)
    assert [kept.run_id for kept in await store.messages(KEY, limit=9)] == ["r31", "r32"]
    assert await store.usage(UsageQuery((0.0, inf))) == (
        PeriodUsage(0, "main", "demo/1", 3, 3, 9, 12, 3, 5.0, 5.0),
        PeriodUsage(0, "main", "demo/2", 3, 3, 0, 0, 0, 5.0, 5.0),
    )
    await store.append(make_turn("late", session_id="second"))
    await store.append(make_turn("next", session_id="first", at=10.0))
    transcripts = await store.transcripts(KEY, 9)
    assert [kept.message_count for kept in transcripts] == [4, 4, 2]
    await store.close()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("crowded") / "sessions.sqlite3"
    with closing(open_database(path, own=INCOMING)) as connection:
        connection.execute("BEGIN")
        for n in range(MANY):
            key = SessionKey("main" if n % 4 else "beta", f"s{n}")
            turn = make_turn(f"r{n}", question(), key=key, session_id=f"id{n}", at=float(n))
            append_turns(connection, [turn])
        connection.execute("COMMIT")
        yield connection


def _no_messages(action: int, table: str | None, *_: str | None) -> int:
    read = action == sqlite3.SQLITE_READ and table == "messages"
    return sqlite3.SQLITE_DENY if read else sqlite3.SQLITE_OK


def test_a_long_list_is_read_page_by_page_without_a_message(
    crowded: sqlite3.Connection,
) -> None:
    crowded.set_authorizer(_no_messages)
    try:
        with pytest.raises(sqlite3.DatabaseError, match="prohibited"):
            crowded.execute("SELECT body FROM messages")
        pages = [
            list_sessions(crowded, SessionQuery(limit=1_000, offset=offset), DamageLog())
            for offset in range(0, MANY + 1, 1_000)
        ]
        found = list_sessions(crowded, SessionQuery(search="S399", limit=2), DamageLog())
    finally:
        crowded.set_authorizer(None)
    listed = [info.key.rest for page in pages for info in page.sessions]
    assert listed == [f"s{n}" for n in reversed(range(MANY))]
    assert {page.total for page in pages} == {MANY}
    assert ([info.session_id for info in found.sessions], found.total) == (
        ["id3999", "id3998"],
        11,
    )


def plans(connection: sqlite3.Connection, query: SessionQuery | str | SessionKey) -> list[str]:
    """How SQLite goes about what is asked for, step by step."""
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    match query:
        case SessionQuery():
            list_sessions(connection, query, DamageLog())
        case SessionKey():
            find_session(connection, query, DamageLog())
        case _:
            find_by_id(connection, query, DamageLog())
    connection.set_trace_callback(None)
    explained = [f"EXPLAIN QUERY PLAN {text}" for text in statements if "SELECT" in text]
    return [step for text in explained for *_, step in connection.execute(text)]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (SessionQuery(), "COVERING INDEX sessions_by_age"),
        (SessionQuery(updated_after=5.0), "COVERING INDEX sessions_by_age (updated_at>?)"),
        (SessionQuery(agent_id="beta"), "COVERING INDEX sessions_of_agent (agent_id=?)"),
        (
            SessionQuery(agent_id="beta", updated_after=5.0),
            "COVERING INDEX sessions_of_agent (agent_id=? AND updated_at>?)",
        ),
        (SessionQuery(label="x"), "INDEX sessions_by_label (label=?)"),
        (SessionQuery(spawned_by="x"), "INDEX sessions_by_parent (spawned_by=?)"),
        (SessionKey("beta", "s4"), "INDEX sqlite_autoindex_sessions_1 (key=?)"),
        ("id7", "INDEX transcripts_by_session_id (session_id=?)"),
    ],
)
def test_sessions_are_found_in_an_index(
    crowded: sqlite3.Connection, query: SessionQuery | str | SessionKey, index: str
) -> None:
    steps = plans(crowded, query)
    assert any(index in step for step in steps), steps
    assert not [step for step in steps if "SCAN" in step and "COVERING INDEX" not in step], steps


async def test_a_reset_and_turns_at_once_leave_the_new_transcript_current(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1", at=1.0))
    await store.load(KEY, PLENTY)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # Nothing is written before everything is asked for.
        writes = [
            asyncio.create_task(store.append(make_turn("before", at=2.0))),
            asyncio.create_task(store.reset(KEY, at=3.0, new_id="second")),
            asyncio.create_task(store.append(make_turn("late", at=4.0))),
        ]
        await asyncio.sleep(0)
        reads = [asyncio.create_task(store.load(KEY, PLENTY)) for _ in range(3)]
        await asyncio.gather(*reads)
        other.execute("ROLLBACK")
    reads = [asyncio.create_task(store.load(KEY, PLENTY)) for _ in range(3)]
    await asyncio.gather(*writes, *reads)
    for _ in range(2):
        assert await store.load(KEY, PLENTY) == StoredSession(KEY, "second", 3.0, 0, Transcript())
    old = await store.messages(KEY, limit=9, session_id="first")
    assert [kept.run_id for kept in old[::2]] == ["r1", "before", "late"]
    await store.close()


async def test_a_change_is_made_also_when_nobody_waits_for_it(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1"))
    await store.load(KEY, PLENTY)
    reset = asyncio.create_task(store.reset(KEY, at=2.0, new_id="second"))
    await asyncio.sleep(0)
    reset.cancel()
    await store.check()  # Written behind the reset.
    loaded = await store.load(KEY, PLENTY)
    assert loaded is not None
    assert loaded.session_id == "second"
    await store.close()


async def test_what_the_catalog_keeps_outlives_the_process(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1"))
    await store.append(make_turn("r2"))
    await store.patch(KEY, {"label": "mine"}, at=1.0, new_id="unused")
    await store.compact(KEY, 2, at=2_000.0, new_id="second")
    told = await store.find(KEY), await store.messages(KEY, limit=9)
    await store.close()
    store = SqliteStore(path)
    await store.open()
    assert (await store.find(KEY), await store.messages(KEY, limit=9)) == told
    await store.close()


async def test_a_turn_with_a_damaged_message_is_not_read_as_another_one(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.append(make_turn("r1"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("""UPDATE messages SET body = '{"role":"king","parts":[]}'""")
    with pytest.raises(StoreFailed, match=r"cannot be read: .*unknown role"):
        await store.turn("r1")
    await store.append(make_turn("r2"))
    await store.close()
