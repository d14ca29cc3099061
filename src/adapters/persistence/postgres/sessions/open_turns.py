"""Turns without an answer, and their steps, in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
from ..columns import data
from ..database import Connection, Values, fetch_all, fetch_one
from .transcripts import find_current
from .turns import APPEND, append_values

PUT_STEP = """
    SELECT put_step(%s::bytea, %s::bytea, %s::bigint, %s::bytea, %s::integer, %s::bytea)"""
TAKE = "SELECT * FROM take_open_turn(%s::bytea, %s::bigint)"
ALL = "SELECT run_id, attempt, body FROM open_turns"
_OF_SESSION = "SELECT run_id, attempt, body FROM open_turns WHERE key = %s FOR UPDATE"
_REPLACE = "UPDATE open_turns SET body = %s WHERE run_id = %s"
_DELETE = "DELETE FROM open_turns WHERE run_id = %s"
_LOCK_RUN = "SELECT lock_run(%s::bytea)::text"


def step_values(turn: OpenTurn, number: int, step: Step) -> Values:
    key, body = data(str(turn.key)), encode_open_turn(turn)
    return data(turn.run_id), key, turn.attempt, body, number, encode_step(step)


def taken_turn(row: tuple[Any, ...] | None, run_id: str) -> OpenTurn | None:
    """The open turn of a row of `TAKE`."""
    if row is None:
        return None
    attempt, body, steps = row
    return decode_open_turn(body, run_id, attempt, tuple(map(decode_step, steps)))


def listed_turns(rows: list[tuple[Any, ...]], damage: DamageLog) -> tuple[OpenTurn, ...]:
    """The open turns of rows of `ALL`. One that cannot be read is logged and left out."""
    turns = []
    for run_id, attempt, body in rows:
        try:
            turns.append(decode_open_turn(body, text(run_id), attempt))
        except Undecodable as error:
            damage.note(f"open turn of {run_id!r}", "body", str(error))
    return tuple(turns)


async def end_open_turn(
    connection: Connection, turn: OpenTurn, note: str, at: float, now: float | None
) -> bool:
    """SessionStore.end_turn, inside a transaction. `now`: as in `append_values`."""
    run_id = data(turn.run_id)
    await connection.execute(_LOCK_RUN, (run_id,))
    current = await find_current(connection, turn.key)
    # With its own attempt it is fenced by the function; a run that nobody has is read as it is.
    kept = taken_turn(await fetch_one(connection, TAKE, (run_id, turn.attempt)), turn.run_id)
    if kept is None:
        return False
    current_id = "" if current is None else current.session_id
    ended = ended_turn(kept, current_id, note=note, at=at)
    if ended is not None:
        await fetch_one(connection, APPEND, append_values(ended, now))
    await connection.execute(_DELETE, (run_id,))
    return True


async def move_open_turns(
    connection: Connection, key: SessionKey, old_id: str, new_id: str
) -> None:
    """The session goes on in another transcript, and so do its open turns. One that cannot be read
    stays."""
    for run_id, attempt, body in await fetch_all(connection, _OF_SESSION, (data(str(key)),)):
        try:
            turn = decode_open_turn(body, text(run_id), attempt)
        except Undecodable:
            continue
        if turn.session_id == old_id:
            moved = encode_open_turn(replace(turn, session_id=new_id))
            await connection.execute(_REPLACE, (moved, run_id))
