"""Sessions and their transcripts in PostgreSQL: which one is current, and how new ones begin.

Functions of a connection inside a transaction, which holds the lock of the session's row.
"""

from __future__ import annotations

from dataclasses import dataclass

from .....domain.sessions import SessionKey
from ...common import text
from ..columns import data, searchable
from ..database import Connection, fetch_one

# Two statements: the second one sees what was committed while the first one waited.
_LOCK = "SELECT id, settings FROM sessions WHERE key = %s FOR UPDATE"
_CURRENT = """
    SELECT id, session_id, message_count FROM transcripts WHERE session = %s
    ORDER BY id DESC LIMIT 1"""
_BEGIN_SESSION = """
    INSERT INTO sessions (key, search_key, agent_id, created_at, updated_at, one_off)
    VALUES (%s, %s, %s, %s, %s, false)
    ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING id, settings"""
_BEGIN = """
    INSERT INTO transcripts (session, session_id, search_id, created_at) VALUES (%s, %s, %s, %s)"""
_COPY = """
    SELECT copy_transcript(transcripts, %s::bigint, %s::bigint, %s::float8, %s::bytea, %s::text)
    FROM transcripts WHERE id = %s"""
_RENEWED = "UPDATE sessions SET updated_at = %s, one_off = false WHERE id = %s"


@dataclass(frozen=True, slots=True)
class Current:
    """A session and its current transcript, which is its newest."""

    session: int
    settings: bytes | None
    transcript: int
    session_id: str
    messages: int


async def find_current(connection: Connection, key: SessionKey) -> Current | None:
    """Lock the session; None when nothing is kept under the key."""
    row = await fetch_one(connection, _LOCK, (data(str(key)),))
    return None if row is None else await _current(connection, *row)


async def begin_session(
    connection: Connection, key: SessionKey, session_id: str, at: float
) -> Current:
    """A session with its first transcript; the one that another transaction has begun meanwhile,
    with its own."""
    name = str(key)
    values = (data(name), searchable(name), data(key.agent_id), at, at)
    row = await fetch_one(connection, _BEGIN_SESSION, values)
    assert row is not None  # noqa: S101 - the statement returns a row in either case
    current = await _current(connection, *row)
    if current is None:
        await begin(connection, row[0], session_id, at)
        current = await _current(connection, *row)
    assert current is not None  # noqa: S101 - it was begun in this transaction
    return current


async def begin(connection: Connection, session: int, session_id: str, at: float) -> None:
    """A new transcript, empty, which is the session's current one from now on."""
    await connection.execute(_BEGIN, (session, data(session_id), searchable(session_id), at))


async def begin_copy(
    connection: Connection, current: Current, left: int, through: int, at: float, new_id: str
) -> None:
    """A new transcript with copies of the current one's messages behind `left` up to `through`."""
    new = (data(new_id), searchable(new_id))
    await connection.execute(_COPY, (left, through, at, *new, current.transcript))


async def renew(connection: Connection, session: int, at: float) -> None:
    """The session changed then, and is a lasting one."""
    await connection.execute(_RENEWED, (at, session))


async def _current(connection: Connection, session: int, settings: bytes | None) -> Current | None:
    row = await fetch_one(connection, _CURRENT, (session,))
    return None if row is None else Current(session, settings, row[0], text(row[1]), row[2])
