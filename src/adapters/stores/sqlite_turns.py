"""What a session store asks of its SQLite database, as functions of a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from ...domain.history import estimate, fitting
from ...domain.model_calls import Usage
from ...domain.ports import StoredSession, Transcript, Turn
from ...domain.sessions import SessionKey
from .codec import decode, decode_settings, encode
from .sqlite_columns import MAX_INTEGER, column, snapshot
from .sqlite_transcripts import (
    Current,
    Place,
    Sums,
    begin,
    begin_session,
    find_current,
    find_for_turn,
    find_named,
)

_NEWEST_FIRST = """
    SELECT tokens, body FROM messages
    WHERE transcript = ? AND number <= ? ORDER BY number DESC"""
_GROWN = """
    UPDATE transcripts SET turn_count = ?, message_count = ?,
        input_tokens = min(input_tokens + ?, ?), output_tokens = min(output_tokens + ?, ?)
    WHERE id = ?"""
# Who comes back to a one-off session by its key has made it a lasting one.
_USED = """
    UPDATE sessions SET updated_at = ?, model = ?, one_off = min(one_off, ?) WHERE id = ?"""
_LASTING = "UPDATE sessions SET one_off = min(one_off, ?) WHERE id = ?"
_PRUNE = """
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE one_off = 1 AND updated_at < ? LIMIT ?)"""


def load_session(
    connection: sqlite3.Connection, key: SessionKey, budget: int
) -> StoredSession | None:
    """SessionStore.load. Raises sqlite3.Error, and Undecodable for what is damaged."""
    with snapshot(connection):
        current = find_current(connection, key)
        if current is None:
            return None
        transcript, count = current.place.transcript, current.place.messages
        with closing(connection.execute(_NEWEST_FIRST, (transcript, count))) as rows:
            newest = [decode(body) for body in _within(rows, budget)]
    read = Transcript(tuple(newest[::-1]), complete=len(newest) == count)
    return StoredSession(
        key=key,
        session_id=current.session_id,
        updated_at=current.updated_at,
        message_count=count,
        tail=fitting(read, budget, count),
        settings=decode_settings(current.settings),
    )


def append_turn(connection: sqlite3.Connection, turn: Turn) -> bool:
    """SessionStore.append, inside the caller's transaction; False: it was stored already.

    Raises sqlite3.Error.
    """
    stored, current = find_for_turn(connection, turn.key, turn.run_id)
    if stored:
        return False
    usage = _usage_columns(turn.usage)
    spent = [max(tokens or 0, 0) for tokens in usage[:2]]
    place = _place_for(connection, turn, current, (1, len(turn.messages), spent[0], spent[1]))
    messages, added = place.messages + 1, len(turn.messages)
    run = (place.transcript, place.turns + 1, column(turn.run_id), turn.at, column(turn.model))
    connection.execute(
        "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*run, *usage, messages, added),
    )
    connection.executemany(
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?)",
        [
            (place.transcript, number, estimate(message), message.role.value, encode(message))
            for number, message in enumerate(turn.messages, messages)
        ],
    )
    return True


def prune_batch(connection: sqlite3.Connection, before: float, limit: int) -> int:
    """Delete at most `limit` one-off sessions last used before that time; tells how many."""
    return connection.execute(_PRUNE, (before, limit)).rowcount


def touch(connection: sqlite3.Connection) -> None:
    """A write that changes nothing and yet goes to the disk."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def _place_for(
    connection: sqlite3.Connection, turn: Turn, current: Current | None, sums: Sums
) -> Place:
    """The transcript that the turn goes to. It and its session are told of the turn, which adds
    `sums` to it."""
    if current is None:
        return begin_session(
            connection,
            turn.key,
            turn.session_id,
            turn.at,
            one_off=turn.one_off,
            model=turn.model,
            sums=sums,
        ).place
    place = current.place
    if current.session_id != turn.session_id:
        late = find_named(connection, current.session, turn.session_id)
        if late is not None:  # The session has gone on without it, and lists need not know.
            connection.execute(_LASTING, (int(turn.one_off), current.session))
            return _grown(connection, late, sums)
    used = (turn.at, column(turn.model), int(turn.one_off), current.session)
    connection.execute(_USED, used)
    if current.session_id != turn.session_id:
        return begin(connection, current.session, turn.session_id, turn.at, sums)
    return _grown(connection, place, sums)


def _grown(connection: sqlite3.Connection, place: Place, sums: Sums) -> Place:
    """The place, as it was before that is added to it."""
    turns, messages, spent, told = sums
    counts = (place.turns + turns, place.messages + messages)
    tokens = (spent, MAX_INTEGER, told, MAX_INTEGER)
    connection.execute(_GROWN, (*counts, *tokens, place.transcript))
    return place


def _within(rows: Iterator[tuple[int, bytes]], budget: int) -> Iterator[bytes]:
    """The bodies, newest first, for as long as the budget lasts; nothing behind that is read."""
    if budget <= 0:
        return
    for tokens, body in rows:
        budget -= tokens
        if budget < 0:
            return
        yield body


def _usage_columns(usage: Usage | None) -> tuple[int | None, ...]:
    """What providers report is kept within what SQLite can hold."""
    if usage is None:
        return (None,) * 5
    counts = (usage.input, usage.output, usage.reasoning, usage.cached)
    return (*(max(-1, min(count, MAX_INTEGER)) for count in counts), int(usage.estimated))
