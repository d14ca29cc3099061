"""What a session store asks of its SQLite database, as functions of a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from .....domain.messages import Message, Role
from .....domain.ports import StoredSession, Transcript
from .....domain.sessions import SessionKey, estimate_sent, fitting
from ...common import Cells, DamageLog, text
from ..columns import snapshot
from .summaries import newest_summary
from .transcripts import find_current

_NEWEST_FIRST = """
    SELECT tokens, number, role, body FROM messages
    WHERE transcript = ? AND number > ? AND number <= ? ORDER BY number DESC"""


def load_session(
    connection: sqlite3.Connection,
    key: SessionKey,
    budget: int,
    damage: DamageLog,
    result_chars: int | None = None,
) -> StoredSession | None:
    """SessionStore.load. Raises sqlite3.Error, and Undecodable for a damaged session id."""
    cells = Cells(str(key), damage)
    with snapshot(connection):
        current = find_current(connection, key)
        if current is None:
            return None
        transcript, count = current.place.transcript, current.place.messages
        summary = newest_summary(connection, current.place, cells)
        behind = 0 if summary is None else summary.through
        with closing(connection.execute(_NEWEST_FIRST, (transcript, behind, count))) as rows:
            newest = list(_within(rows, budget, result_chars, cells))
    read = Transcript(tuple(newest[::-1]), len(newest) == count - behind, summary=summary)
    return StoredSession(
        key=key,
        session_id=text(current.session_id),
        updated_at=cells.time("updated_at", current.updated_at),
        message_count=count,
        tail=fitting(read, budget, count - behind, result_chars),
        settings=cells.settings("settings", current.settings),
    )


def touch(connection: sqlite3.Connection) -> None:
    """A write that changes nothing and yet goes to the disk."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def _within(
    rows: Iterator[tuple[object, int, str, bytes]],
    budget: int,
    result_chars: int | None,
    cells: Cells,
) -> Iterator[Message]:
    """The messages, newest first, for as long as the budget lasts; nothing behind that is read."""
    if budget <= 0:
        return
    for tokens, number, role, body in rows:
        size = tokens if isinstance(tokens, int) else 0
        message = None
        if result_chars is not None and role == Role.TOOL.value and size * 3 > result_chars:
            message = cells.message(number, role, body)
            size = min(size, estimate_sent(message, result_chars))
        budget -= size
        if budget < 0:
            return
        yield cells.message(number, role, body) if message is None else message
