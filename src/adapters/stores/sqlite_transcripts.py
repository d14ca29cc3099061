"""Sessions and their transcripts in SQLite: which one is current, and how new ones begin."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...domain.sessions import SessionKey
from .sqlite_columns import column, text

_CURRENT = """
    SELECT sessions.id, sessions.updated_at, sessions.settings, transcripts.session_id,
           transcripts.id, transcripts.turn_count, transcripts.message_count
    FROM sessions JOIN transcripts ON transcripts.session = sessions.id
    WHERE sessions.key = ? ORDER BY transcripts.id DESC LIMIT 1"""
_FOR_TURN = f"""
    SELECT EXISTS (SELECT 1 FROM turns WHERE run_id = ?), current.*
    FROM (SELECT 1) LEFT JOIN ({_CURRENT}) AS current"""  # noqa: S608 - no values in it
_NAMED = """
    SELECT id, turn_count, message_count FROM transcripts
    WHERE session = ? AND session_id = ? ORDER BY id DESC LIMIT 1"""


Sums = tuple[int, int, int, int]
"""Of a transcript: turns, messages, tokens in and out."""
NOTHING_YET: Sums = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Place:
    """A transcript, and how many turns and messages it has."""

    transcript: int
    turns: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Current:
    """A session and its current transcript, which is its newest."""

    session: int
    updated_at: float
    settings: bytes | None
    session_id: str
    place: Place


def find_current(connection: sqlite3.Connection, key: SessionKey) -> Current | None:
    """None when nothing is kept under the key. Raises sqlite3.Error, as all here."""
    row = connection.execute(_CURRENT, (column(str(key)),)).fetchone()
    return None if row is None else _current(row)


def find_for_turn(
    connection: sqlite3.Connection, key: SessionKey, run_id: str
) -> tuple[bool, Current | None]:
    """Whether that Run has stored its turn, and what is kept under the key: in one statement,
    since each costs the writing thread a wait for its turn in the interpreter."""
    place = (column(run_id), column(str(key)))
    stored, *row = connection.execute(_FOR_TURN, place).fetchone()
    return bool(stored), None if row[0] is None else _current(row)


def find_named(connection: sqlite3.Connection, session: int, session_id: str) -> Place | None:
    """The session's newest transcript of that id, the current one or an earlier one."""
    row = connection.execute(_NAMED, (session, column(session_id))).fetchone()
    return None if row is None else Place(*row)


def begin_session(
    connection: sqlite3.Connection,
    key: SessionKey,
    session_id: str,
    at: float,
    *,
    one_off: bool,
    model: str = "",
    sums: Sums = NOTHING_YET,
) -> Current:
    """A session that was not there yet, with its first transcript."""
    session = connection.execute(
        "INSERT INTO sessions (key, agent_id, created_at, updated_at, one_off, model)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (column(str(key)), column(key.agent_id), at, at, int(one_off), column(model)),
    ).lastrowid
    assert session is not None  # noqa: S101 - typed for statements that insert nothing
    place = begin(connection, session, session_id, at, sums)
    return Current(session, at, None, session_id, place)


def begin(
    connection: sqlite3.Connection,
    session: int,
    session_id: str,
    at: float,
    sums: Sums = NOTHING_YET,
) -> Place:
    """A new transcript, which is the session's current one from now on: empty, but `sums` may tell
    already of the turn that is put into it next."""
    started = connection.execute(
        "INSERT INTO transcripts (session, session_id, created_at, turn_count, message_count,"
        " input_tokens, output_tokens) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (session, column(session_id), at, *sums),
    ).lastrowid
    assert started is not None  # noqa: S101 - typed for statements that insert nothing
    return Place(started)


def _current(row: Sequence[Any]) -> Current:
    session, updated_at, settings, session_id, *place = row
    return Current(session, updated_at, settings, text(session_id), Place(*place))
