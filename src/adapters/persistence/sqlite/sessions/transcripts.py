"""Sessions and their transcripts in SQLite: which one is current, and how new ones begin."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .....domain.sessions import SessionKey
from ..columns import column

MOST = 2**53
_NUMBER = f"typeof({{0}}) = 'integer' AND {{0}} BETWEEN 0 AND {MOST}"
IS_COUNTED = f"{_NUMBER.format('turn_count')} AND {_NUMBER.format('message_count')}"
"""Whether a transcript's counts can be right."""
TURNS = "(SELECT coalesce(max(number), 0) FROM turns WHERE transcript = transcripts.id)"
MESSAGES = "(SELECT coalesce(max(number), 0) FROM messages WHERE transcript = transcripts.id)"
"""The same counted again."""
# In place of a damaged count stands what there is.
_COUNTS = f"""
    CASE WHEN {IS_COUNTED} THEN turn_count ELSE {TURNS} END,
    CASE WHEN {IS_COUNTED} THEN message_count ELSE {MESSAGES} END"""

_CURRENT = f"""
    SELECT sessions.id, sessions.updated_at, sessions.settings, transcripts.session_id,
           transcripts.id, {_COUNTS}
    FROM sessions JOIN transcripts ON transcripts.session = sessions.id
    WHERE sessions.key = ? ORDER BY transcripts.id DESC LIMIT 1"""  # noqa: S608 - no values in it
_NAMED = f"""
    SELECT id, {_COUNTS} FROM transcripts
    WHERE session = ? AND session_id = ? ORDER BY id DESC LIMIT 1"""  # noqa: S608 - the same

_COPY_MESSAGES = """
    INSERT INTO messages SELECT :new, number - :left, tokens, role, body FROM messages
    WHERE transcript = :old AND number > :left AND number <= :through"""
_COPY_ORIGINS = """
    INSERT INTO copies
    SELECT :new, max(first_message, :left + 1) - :left,
           min(first_message + message_count - 1, :through) - max(first_message - 1, :left), run_id
    FROM (SELECT first_message, message_count, run_id FROM turns WHERE transcript = :old
          UNION ALL
          SELECT first_message, message_count, run_id FROM copies WHERE transcript = :old)
    WHERE message_count > 0 AND first_message + message_count - 1 > :left
        AND first_message <= :through"""
_COPY_SUMMARIES = """
    INSERT INTO summaries SELECT :new, through, at, model, tokens_before, body FROM summaries
    WHERE transcript = :old AND through <= :through"""


@dataclass(frozen=True, slots=True)
class Place:
    """A transcript, and how many turns and messages it has."""

    transcript: int
    turns: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Current:
    """A session and its current transcript, which is its newest. `session_id` as it is stored."""

    session: int
    updated_at: float
    settings: bytes | None
    session_id: str | bytes
    place: Place


def find_current(connection: sqlite3.Connection, key: SessionKey) -> Current | None:
    """None when nothing is kept under the key. Raises sqlite3.Error, as all here."""
    row = connection.execute(_CURRENT, (column(str(key)),)).fetchone()
    if row is None:
        return None
    session, updated_at, settings, session_id, *place = row
    return Current(session, updated_at, settings, session_id, Place(*place))


def find_named(connection: sqlite3.Connection, session: int, session_id: str) -> Place | None:
    """The session's newest transcript of that id, the current one or an earlier one."""
    row = connection.execute(_NAMED, (session, column(session_id))).fetchone()
    return None if row is None else Place(*row)


def begin_session(
    connection: sqlite3.Connection, key: SessionKey, session_id: str, at: float, *, one_off: bool
) -> Current:
    """A session that was not there yet, with its first transcript."""
    session = connection.execute(
        "INSERT INTO sessions (key, agent_id, created_at, updated_at, one_off)"
        " VALUES (?, ?, ?, ?, ?)",
        (column(str(key)), column(key.agent_id), at, at, int(one_off)),
    ).lastrowid
    assert session is not None  # noqa: S101 - typed for statements that insert nothing
    return Current(session, at, None, session_id, begin(connection, session, session_id, at))


def begin(connection: sqlite3.Connection, session: int, session_id: str, at: float) -> Place:
    """A new transcript, empty, which is the session's current one from now on."""
    started = connection.execute(
        "INSERT INTO transcripts (session, session_id, created_at, turn_count, message_count)"
        " VALUES (?, ?, ?, 0, 0)",
        (session, column(session_id), at),
    ).lastrowid
    assert started is not None  # noqa: S101 - typed for statements that insert nothing
    return Place(started)


def begin_copy(
    connection: sqlite3.Connection,
    current: Current,
    left: int,
    through: int,
    at: float,
    new_id: str,
) -> None:
    """A new transcript with copies of the current one's messages behind `left` up to `through`."""
    new = begin(connection, current.session, new_id, at).transcript
    span = {"new": new, "old": current.place.transcript, "left": left, "through": through}
    connection.execute(_COPY_MESSAGES, span)
    connection.execute(_COPY_ORIGINS, span)
    if not left:
        connection.execute(_COPY_SUMMARIES, span)
    connection.execute(
        "UPDATE transcripts SET message_count = ? WHERE id = ?", (through - left, new)
    )
