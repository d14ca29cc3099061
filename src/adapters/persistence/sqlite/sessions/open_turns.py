"""Turns without an answer, and their steps, in a session store's SQLite database.

Functions of a connection, inside the caller's transaction. They raise sqlite3.Error, LeaseLost for
an attempt that a later one has overtaken, and Undecodable for damaged rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from .....domain.errors import LeaseLost
from .....domain.ports import OpenTurn
from .....domain.runs import Step
from .....domain.sessions import SessionKey
from ...common import (
    DamageLog,
    Undecodable,
    decode_open_turn,
    decode_step,
    encode_open_turn,
    encode_step,
    ended_turn,
    text,
)
from ..columns import column
from .insert_turns import append_turns
from .transcripts import find_current

_ATTEMPT = "SELECT attempt FROM open_turns WHERE run_id = ?"
_IS_STORED = "SELECT 1 FROM turns WHERE run_id = ?"
_INSERT = "INSERT INTO open_turns (run_id, key, attempt, body) VALUES (?, ?, ?, ?)"
_FENCE = "UPDATE open_turns SET attempt = ? WHERE run_id = ?"
_DROP_LATER = "DELETE FROM steps WHERE run_id = ? AND number > ?"
_PUT_STEP = "INSERT OR REPLACE INTO steps (run_id, number, body) VALUES (?, ?, ?)"
_TURN = "SELECT attempt, body FROM open_turns WHERE run_id = ?"
_STEPS = "SELECT body FROM steps WHERE run_id = ? ORDER BY number"
_ALL = "SELECT run_id, attempt, body FROM open_turns"
_OF_SESSION = "SELECT run_id, attempt, body FROM open_turns WHERE key = ?"
_REPLACE = "UPDATE open_turns SET body = ? WHERE run_id = ?"
_DELETE = "DELETE FROM open_turns WHERE run_id = ?"


def put_step(connection: sqlite3.Connection, turn: OpenTurn, number: int, step: Step) -> None:
    """SessionStore.append_step."""
    run_id = column(turn.run_id)
    row = connection.execute(_ATTEMPT, (run_id,)).fetchone()
    if row is None:
        if connection.execute(_IS_STORED, (run_id,)).fetchone() is not None:
            raise LeaseLost(f"The turn of run {turn.run_id!r} is stored already.")
        key, body = column(str(turn.key)), encode_open_turn(turn)
        connection.execute(_INSERT, (run_id, key, turn.attempt, body))
    else:
        _check_attempt(turn.run_id, row[0], turn.attempt)
        if row[0] < turn.attempt:
            connection.execute(_FENCE, (turn.attempt, run_id))
            connection.execute(_DROP_LATER, (run_id, number))
    connection.execute(_PUT_STEP, (run_id, number, encode_step(step)))


def take_open_turn(connection: sqlite3.Connection, run_id: str, attempt: int) -> OpenTurn | None:
    """SessionStore.open_turn."""
    row = connection.execute(_ATTEMPT, (column(run_id),)).fetchone()
    if row is None:
        return None
    _check_attempt(run_id, row[0], attempt)
    connection.execute(_FENCE, (attempt, column(run_id)))
    return _read(connection, run_id)


def list_open_turns(connection: sqlite3.Connection, damage: DamageLog) -> tuple[OpenTurn, ...]:
    """SessionStore.open_turns. A damaged row is left where it is, and logged."""
    turns = []
    for run_id, attempt, body in connection.execute(_ALL).fetchall():
        try:
            turns.append(decode_open_turn(body, text(run_id), attempt))
        except Undecodable as error:
            damage.note(f"open turn of {run_id!r}", "body", str(error))
    return tuple(turns)


def end_open_turn(
    connection: sqlite3.Connection, turn: OpenTurn, note: str, at: float, kept_from: float
) -> bool:
    """SessionStore.end_turn. `kept_from`: as in `append_turns`."""
    row = connection.execute(_ATTEMPT, (column(turn.run_id),)).fetchone()
    if row is None:
        return False
    _check_attempt(turn.run_id, row[0], turn.attempt)
    kept = _read(connection, turn.run_id)
    place = find_current(connection, turn.key)
    current = "" if place is None else text(place.session_id)
    ended = None if kept is None else ended_turn(kept, current, note=note, at=at)
    if ended is not None:
        append_turns(connection, [ended], kept_from)
    connection.execute(_DELETE, (column(turn.run_id),))
    return True


def move_open_turns(
    connection: sqlite3.Connection, key: SessionKey, old_id: str, new_id: str
) -> None:
    """The session goes on in another transcript, and so do its open turns. A damaged one stays."""
    rows = connection.execute(_OF_SESSION, (column(str(key)),)).fetchall()
    for run_id, attempt, body in rows:
        try:
            turn = decode_open_turn(body, text(run_id), attempt)
        except Undecodable:
            continue
        if turn.session_id == old_id:
            moved = encode_open_turn(replace(turn, session_id=new_id))
            connection.execute(_REPLACE, (moved, run_id))


def delete_open_turns(connection: sqlite3.Connection, key: SessionKey) -> None:
    """Those of a session that is deleted."""
    connection.execute("DELETE FROM open_turns WHERE key = ?", (column(str(key)),))


def _read(connection: sqlite3.Connection, run_id: str) -> OpenTurn | None:
    row = connection.execute(_TURN, (column(run_id),)).fetchone()
    if row is None:
        return None
    rows: Sequence[tuple[bytes]] = connection.execute(_STEPS, (column(run_id),)).fetchall()
    steps = tuple(decode_step(body) for (body,) in rows)
    return decode_open_turn(row[1], run_id, row[0], steps)


def _check_attempt(run_id: str, stored: object, attempt: int) -> None:
    if not isinstance(stored, int):
        raise Undecodable(f"the attempt of run {run_id!r} is {stored!r}")
    if attempt and stored > attempt:
        raise LeaseLost(f"A later attempt of run {run_id!r} has stored a step.")
