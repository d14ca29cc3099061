"""What a session store asks of its SQLite database, as functions of a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from ...domain.history import fitting
from ...domain.ports import StoredSession, Transcript
from ...domain.sessions import SessionKey
from .codec import decode, decode_settings
from .sqlite_columns import snapshot
from .sqlite_transcripts import (
    find_current,
)

_NEWEST_FIRST = """
    SELECT tokens, body FROM messages
    WHERE transcript = ? AND number <= ? ORDER BY number DESC"""


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


def touch(connection: sqlite3.Connection) -> None:
    """A write that changes nothing and yet goes to the disk."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def _within(rows: Iterator[tuple[int, bytes]], budget: int) -> Iterator[bytes]:
    """The bodies, newest first, for as long as the budget lasts; nothing behind that is read."""
    if budget <= 0:
        return
    for tokens, body in rows:
        budget -= tokens
        if budget < 0:
            return
        yield body
