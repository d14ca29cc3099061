"""What a session store asks of its SQLite database, as functions of a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from ...domain.history import estimate, fitting
from ...domain.model_calls import Usage
from ...domain.ports import StoredSession, Transcript, Turn
from ...domain.sessions import SessionKey
from .codec import decode, encode

_CURRENT = """
    SELECT sessions.id, sessions.updated_at, transcripts.id, transcripts.session_id,
           transcripts.turn_count, transcripts.message_count
    FROM sessions JOIN transcripts ON transcripts.session = sessions.id
    WHERE sessions.key = ? ORDER BY transcripts.id DESC LIMIT 1"""
_NEWEST_FIRST = """
    SELECT tokens, body FROM messages
    WHERE transcript = ? AND number <= ? ORDER BY number DESC"""
_PRUNE = """
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE one_off = 1 AND updated_at < ? LIMIT ?)"""

_MAX_INTEGER = 2**63 - 1


def load_session(
    connection: sqlite3.Connection, key: SessionKey, budget: int
) -> StoredSession | None:
    """SessionStore.load. Raises sqlite3.Error, and Undecodable for a damaged message."""
    connection.execute("BEGIN")  # Both queries see the same moment.
    try:
        row = connection.execute(_CURRENT, (_column(str(key)),)).fetchone()
        if row is None:
            return None
        _, updated_at, transcript, session_id, _, count = row
        with closing(connection.execute(_NEWEST_FIRST, (transcript, count))) as rows:
            newest = [decode(body) for body in _within(rows, budget)]
    finally:
        connection.rollback()  # Ends the read, also where SQLite has ended it by itself.
    read = Transcript(tuple(newest[::-1]), complete=len(newest) == count)
    return StoredSession(
        key=key,
        session_id=_text(session_id),
        updated_at=updated_at,
        message_count=count,
        tail=fitting(read, budget, count),
    )


def append_turn(connection: sqlite3.Connection, turn: Turn) -> bool:
    """SessionStore.append, inside the caller's transaction; False: it was stored already.

    Raises sqlite3.Error.
    """
    run_id = _column(turn.run_id)
    if connection.execute("SELECT 1 FROM turns WHERE run_id = ?", (run_id,)).fetchone():
        return False
    transcript, turns, messages = _transcript_for(connection, turn)
    usage = _usage_columns(turn.usage)
    at, model, added = turn.at, _column(turn.model), len(turn.messages)
    connection.execute(
        "INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (transcript, turns + 1, run_id, at, model, *usage, messages + 1, added),
    )
    connection.executemany(
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?)",
        [
            (transcript, number, estimate(message), message.role.value, encode(message))
            for number, message in enumerate(turn.messages, messages + 1)
        ],
    )
    connection.execute(
        "UPDATE transcripts SET turn_count = ?, message_count = ? WHERE id = ?",
        (turns + 1, messages + added, transcript),
    )
    return True


def prune_batch(connection: sqlite3.Connection, before: float, limit: int) -> int:
    """Delete at most `limit` one-off sessions last used before that time; tells how many."""
    return connection.execute(_PRUNE, (before, limit)).rowcount


def touch(connection: sqlite3.Connection) -> None:
    """A write that changes nothing and yet goes to the disk."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def _transcript_for(connection: sqlite3.Connection, turn: Turn) -> tuple[int, int, int]:
    """Where the turn goes: the transcript's id, and how many turns and messages it has."""
    key, at, one_off = _column(str(turn.key)), turn.at, int(turn.one_off)
    row = connection.execute(_CURRENT, (key,)).fetchone()
    if row is None:
        session = connection.execute(
            "INSERT INTO sessions (key, agent_id, created_at, updated_at, one_off)"
            " VALUES (?, ?, ?, ?, ?)",
            (key, _column(turn.key.agent_id), at, at, one_off),
        ).lastrowid
    else:
        session, _, transcript, session_id, turns, messages = row
        # Who comes back to a one-off session by its key has made it a lasting one.
        connection.execute(
            "UPDATE sessions SET updated_at = ?, one_off = min(one_off, ?) WHERE id = ?",
            (at, one_off, session),
        )
        if _text(session_id) == turn.session_id:
            return transcript, turns, messages
    started = connection.execute(
        "INSERT INTO transcripts (session, session_id, created_at, turn_count, message_count)"
        " VALUES (?, ?, ?, 0, 0)",
        (session, _column(turn.session_id), at),
    ).lastrowid
    assert started is not None  # noqa: S101 - typed for statements that insert nothing
    return started, 0, 0


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
    return (*(max(-1, min(count, _MAX_INTEGER)) for count in counts), int(usage.estimated))


def _column(text: str) -> str | bytes:
    """The text, or where it has no UTF-8 (lone surrogates) bytes that stand for it alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _text(column: str | bytes) -> str:
    return column if isinstance(column, str) else column.decode("utf-8", "surrogatepass")
