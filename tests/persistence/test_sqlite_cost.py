"""What a turn costs does not grow with the session; counted in steps, not in time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from opensoul.adapters.persistence.common.damage import DamageLog
from opensoul.adapters.persistence.sqlite.schema import open_database
from opensoul.adapters.persistence.sqlite.sessions.insert_turns import INCOMING, append_turns
from opensoul.adapters.persistence.sqlite.sessions.one_offs import prune_expired
from opensoul.adapters.persistence.sqlite.sessions.store import SqliteStore
from opensoul.adapters.persistence.sqlite.sessions.turns import load_session
from opensoul.domain.sessions.history import estimate_all
from opensoul.domain.sessions.keys import SessionKey

from .building import answer, make_turn, question

LONG, SHORT = SessionKey("main", "long"), SessionKey("main", "short")
BUDGET = 4 * estimate_all([question(), answer()])


class Steps:
    """Counts the instructions that SQLite executes on a connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.count = 0
        connection.set_progress_handler(self._step, 1)

    def _step(self) -> int:
        self.count += 1
        return 0

    def taken(self) -> int:
        taken, self.count = self.count, 0
        return taken


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_database(tmp_path / "sessions.sqlite3", own=INCOMING)) as connection:
        said = [question(), answer()]
        connection.execute("BEGIN")
        append_turns(connection, [make_turn("long", *said * 5_000, key=LONG)])
        append_turns(connection, [make_turn("short", *said * 5, key=SHORT)])
        for n in range(300):
            key = SessionKey("main", f"once-{n}")
            turn = make_turn(f"once-{n}", key=key, one_off=True)
            append_turns(connection, [turn], float(n))
        connection.execute("COMMIT")
        yield connection


def test_loading_reads_no_more_of_a_long_session_than_of_a_short_one(
    connection: sqlite3.Connection,
) -> None:
    steps = Steps(connection)
    short = load_session(connection, SHORT, BUDGET, DamageLog())
    for_short = steps.taken()
    long = load_session(connection, LONG, BUDGET, DamageLog())
    for_long = steps.taken()
    assert short is not None
    assert long is not None
    assert long.message_count == 10_000
    assert long.tail == short.tail
    assert len(long.tail.messages) == 8
    assert for_long <= for_short * 1.1


def test_adding_a_turn_costs_the_same_in_a_long_session(connection: sqlite3.Connection) -> None:
    steps = Steps(connection)
    append_turns(connection, [make_turn("s", key=SHORT)])
    for_short = steps.taken()
    append_turns(connection, [make_turn("l", key=LONG)])
    assert steps.taken() <= for_short * 1.1


def test_pruning_looks_only_at_what_it_deletes(connection: sqlite3.Connection) -> None:
    steps = Steps(connection)
    assert prune_expired(connection, 0.0, 100) == 0
    assert steps.taken() < 100
    assert prune_expired(connection, 10.0, 100) == 10
    for_ten = steps.taken()
    assert prune_expired(connection, 300.0, 10) == 10
    assert steps.taken() <= for_ten * 1.1
    left = connection.execute("SELECT count(*) FROM sessions").fetchone()[0]
    turns = connection.execute("SELECT count(*) FROM turns").fetchone()[0]
    messages = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
    assert (left, turns, messages) == (282, 282, 10_010 + 2 * 280)


async def test_the_write_ahead_log_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    store = SqliteStore(path)
    await store.open()
    log = path.with_name(path.name + "-wal")
    sizes = []
    for n in range(100):
        await store.append(make_turn(f"r{n}", question("x" * 300_000)))
        sizes.append(log.stat().st_size)
    await store.close()
    assert path.stat().st_size > 30_000_000
    assert max(sizes) < 16_000_000
