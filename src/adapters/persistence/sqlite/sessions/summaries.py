"""Summaries in a session store's SQLite database, as functions of a connection.

They raise sqlite3.Error, and `put_summary` LeaseLost. A damaged row is passed over and logged: the
model then gets the messages themselves.
"""

from __future__ import annotations

import sqlite3

from .....domain.errors import LeaseLost
from .....domain.sessions import SessionKey, Summary
from ...common import MAX_INTEGER, Cells, Undecodable, text
from ..columns import column
from .transcripts import Place, find_current

_NEWEST = """
    SELECT through, at, model, tokens_before, body FROM summaries
    WHERE transcript = ? AND typeof(through) = 'integer' AND through BETWEEN 1 AND ?
    ORDER BY through DESC LIMIT 1"""
_INSERT = """
    INSERT INTO summaries (transcript, through, at, model, tokens_before, body)
    VALUES (?, ?, ?, ?, ?, ?)"""
_ATTEMPT = "SELECT attempt FROM open_turns WHERE run_id = ?"
_IS_STORED = "SELECT 1 FROM turns WHERE run_id = ?"


def newest_summary(connection: sqlite3.Connection, place: Place, cells: Cells) -> Summary | None:
    """The summary that counts; None where there is none."""
    row = connection.execute(_NEWEST, (place.transcript, place.messages)).fetchone()
    if row is None:
        return None
    through, at, model, tokens, body = row
    try:
        written = text(body)
    except Undecodable as error:
        cells.log.note(cells.place, "summary", str(error))
        return None
    return Summary(
        text=written,
        through=through,
        tokens_before=cells.count("tokens_before", tokens),
        model=cells.text("model", model),
        at=cells.time("at", at),
    )


def put_summary(
    connection: sqlite3.Connection,
    key: SessionKey,
    session_id: str,
    summary: Summary,
    run_id: str,
    attempt: int,
) -> bool:
    """SessionStore.put_summary."""
    if attempt:
        _check_attempt(connection, run_id, attempt)
    current = find_current(connection, key)
    if current is None or text(current.session_id) != session_id:
        return False
    place = current.place
    newest = connection.execute(_NEWEST, (place.transcript, place.messages)).fetchone()
    if not (0 if newest is None else newest[0]) < summary.through <= place.messages:
        return False
    tokens = min(summary.tokens_before, MAX_INTEGER)
    row = (summary.through, summary.at, column(summary.model), tokens, column(summary.text))
    connection.execute(_INSERT, (place.transcript, *row))
    return True


def _check_attempt(connection: sqlite3.Connection, run_id: str, attempt: int) -> None:
    if connection.execute(_IS_STORED, (column(run_id),)).fetchone() is not None:
        raise LeaseLost(f"The turn of run {run_id!r} is stored already.")
    row = connection.execute(_ATTEMPT, (column(run_id),)).fetchone()
    if row is not None and isinstance(row[0], int) and row[0] > attempt:
        raise LeaseLost(f"A later attempt of run {run_id!r} has stored a step.")
