"""What a session store asks of its SQLite database, as functions of a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from .....domain.ports import StoredSession, Transcript
from .....domain.sessions import SessionKey, fitting
from ..columns import snapshot, text
from ..damage import Cells, DamageLog
from .transcripts import find_current

_NEWEST_FIRST = """
    SELECT tokens, number, role, body FROM messages
    WHERE transcript = ? AND number <= ? ORDER BY number DESC"""


def load_session(
    connection: sqlite3.Connection, key: SessionKey, budget: int, damage: DamageLog
) -> StoredSession | None:
    """SessionStore.load. Raises sqlite3.Error, and Undecodable for a damaged session id."""
    cells = Cells(str(key), damage)
    with snapshot(connection):
        current = find_current(connection, key)
        if current is None:
            return None
        transcript, count = current.place.transcript, current.place.messages
        with closing(connection.execute(_NEWEST_FIRST, (transcript, count))) as rows:
            newest = [cells.message(*message) for message in _within(rows, budget)]
    read = Transcript(tuple(newest[::-1]), complete=len(newest) == count)
    return StoredSession(
        key=key,
        session_id=text(current.session_id),
        updated_at=cells.time("updated_at", current.updated_at),
        message_count=count,
        tail=fitting(read, budget, count),
        settings=cells.settings("settings", current.settings),
    )


def touch(connection: sqlite3.Connection) -> None:
    """A write that changes nothing and yet goes to the disk."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


_Stored = tuple[int, str, bytes]
"""A message's number, role and body."""


def _within(rows: Iterator[tuple[int, int, str, bytes]], budget: int) -> Iterator[_Stored]:
    """The messages, newest first, for as long as the budget lasts; nothing behind that is read."""
    if budget <= 0:
        return
    for tokens, *message in rows:
        budget -= tokens if isinstance(tokens, int) else 0
        if budget < 0:
            return
        yield tuple(message)  # type: ignore[misc]  # three are left of four
