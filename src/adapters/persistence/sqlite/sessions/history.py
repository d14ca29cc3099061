"""What was said in the sessions of a SQLite database, as functions of a connection.

All of them raise sqlite3.Error; `find_turn` and `find_span` raise Undecodable for what is damaged.
The others replace that, and log it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from .....domain.messages import Message
from .....domain.models import Usage
from .....domain.ports import Turn
from .....domain.sessions import KeptMessage, KeptTranscript, SessionKey, Span
from ...common import Cells, DamageLog, Undecodable, decode, decode_stop, text
from ..columns import bounded, column, snapshot
from .catalog import key_of
from .transcripts import MOST, find_current, find_named

_TURN = """
    SELECT sessions.key, sessions.agent_id, sessions.one_off, transcripts.session_id,
           turns.transcript, turns.at, turns.model, turns.first_message, turns.message_count,
           turns.input_tokens, turns.output_tokens, turns.reasoning_tokens, turns.cached_tokens,
           turns.usage_estimated, turns.stop
    FROM turns JOIN transcripts ON transcripts.id = turns.transcript
    JOIN sessions ON sessions.id = transcripts.session
    WHERE turns.run_id = ?"""
_SPAN = """
    SELECT transcripts.session_id, turns.first_message + turns.message_count - 1
    FROM turns JOIN transcripts ON transcripts.id = turns.transcript WHERE turns.run_id = ?"""
_OF_TURN = """
    SELECT body FROM messages
    WHERE transcript = ? AND number >= ? AND number < ? ORDER BY number"""
_BEFORE = """
    SELECT number, role, body FROM messages
    WHERE transcript = ? AND number < ? ORDER BY number DESC LIMIT ?"""
_ORIGINS = """
    SELECT first_message, message_count, run_id, at, model FROM turns
    WHERE transcript = :transcript
        AND first_message <= :last AND first_message + message_count > :first
    UNION ALL
    SELECT copies.first_message, copies.message_count, turns.run_id, turns.at, turns.model
    FROM copies JOIN turns ON turns.run_id = copies.run_id
    WHERE copies.transcript = :transcript AND copies.first_message <= :last
        AND copies.first_message + copies.message_count > :first"""
_TRANSCRIPTS = """
    SELECT id, session_id, created_at, message_count FROM transcripts
    WHERE session = ? ORDER BY id DESC LIMIT ?"""
_TIMES = """
    SELECT first_message, at FROM turns WHERE transcript = :transcript AND message_count > 0
    UNION ALL
    SELECT copies.first_message, turns.at FROM copies JOIN turns ON turns.run_id = copies.run_id
    WHERE copies.transcript = :transcript ORDER BY first_message DESC"""
_FIRST_QUESTION = """
    SELECT number, body FROM messages
    WHERE transcript = ? AND role = 'user' ORDER BY number LIMIT 1"""


@dataclass(frozen=True, slots=True)
class _Origin:
    run_id: str
    at: float
    model: str


_MOST_BYTES = 8 * 1024 * 1024
"""Bytes of stored messages after which no more are read at once."""
_UNKNOWN = _Origin("", 0.0, "")
"""Of a message that no turn claims: then its turn's row is damaged."""


def find_span(connection: sqlite3.Connection, run_id: str) -> Span | None:
    """SessionCatalog.span."""
    row = connection.execute(_SPAN, (column(run_id),)).fetchone()
    if row is None:
        return None
    session_id, through = row
    if not isinstance(through, int) or not 0 <= through <= MOST:
        raise Undecodable("a stored turn does not say which messages are its own")
    return Span(text(session_id), 0, through)


def find_turn(connection: sqlite3.Connection, run_id: str) -> Turn | None:
    """SessionCatalog.turn."""
    with snapshot(connection):
        row = connection.execute(_TURN, (column(run_id),)).fetchone()
        if row is None:
            return None
        key, agent_id, one_off, session_id, transcript, at, model, first, count, *usage, stop = row
        if not all(isinstance(number, int) and 0 <= number <= MOST for number in (first, count)):
            raise Undecodable("a stored turn does not say which messages are its own")
        bodies = connection.execute(_OF_TURN, (transcript, first, first + count)).fetchall()
    return Turn(
        key=key_of(text(key), text(agent_id)),
        session_id=text(session_id),
        run_id=run_id,
        at=at,
        messages=tuple(decode(body) for (body,) in bodies),
        model=text(model),
        usage=_usage(*usage),
        one_off=bool(one_off),
        stop=decode_stop(stop),
    )


def _usage(
    input_: int | None, output: int, reasoning: int, cached: int, estimated: int
) -> Usage | None:
    """All are NULL where the provider reported none."""
    return None if input_ is None else Usage(input_, output, reasoning, cached, bool(estimated))


def read_messages(
    connection: sqlite3.Connection,
    key: SessionKey,
    limit: int,
    before: int | None,
    session_id: str | None,
    damage: DamageLog,
) -> tuple[KeptMessage, ...]:
    """SessionCatalog.messages."""
    with snapshot(connection):
        current = find_current(connection, key)
        if current is None:
            return ()
        place = current.place
        if session_id is not None:
            named = find_named(connection, current.session, session_id)
            if named is None:
                return ()
            place = named
        end = place.messages + 1 if before is None else bounded(before)
        read = (place.transcript, end, bounded(limit))
        with closing(connection.execute(_BEFORE, read)) as newest:
            rows = _as_many_as_fit(newest)[::-1]
        cells = Cells(str(key), damage)
        span = (place.transcript, rows[0][0], rows[-1][0]) if rows else None
        origins = {} if span is None else _origins(connection, *span, cells)
    return tuple(
        _kept(number, cells.message(number, role, body), origins.get(number, _UNKNOWN))
        for number, role, body in rows
    )


def _as_many_as_fit(rows: Iterable[tuple[int, str, Any]]) -> list[tuple[int, str, Any]]:
    """The first row, and those after it until there are `_MOST_BYTES` of bodies. Fifty messages of
    the largest size would be a gigabyte, of which a client is shown little."""
    fitting, size = [], 0
    for row in rows:
        fitting.append(row)
        size += len(row[2]) if isinstance(row[2], bytes | str) else 0
        if size >= _MOST_BYTES:
            break
    return fitting


def _origins(
    connection: sqlite3.Connection, transcript: int, first: int, last: int, cells: Cells
) -> dict[int, _Origin]:
    """Of which turn each message between the two is, also where it is a copy."""
    found: dict[int, _Origin] = {}
    span = {"transcript": transcript, "first": first, "last": last}
    with closing(connection.execute(_ORIGINS, span)) as rows:
        for start, count, run_id, at, model in rows:
            origin = _Origin(
                cells.text("run_id", run_id), cells.time("at", at), cells.text("model", model)
            )
            start = cells.count("first_message", start)
            count = min(cells.count("message_count", count), last)
            numbers = range(max(start, first), min(start + count, last + 1))
            found |= dict.fromkeys(numbers, origin)
    return found


def _kept(number: int, message: Message, origin: _Origin) -> KeptMessage:
    return KeptMessage(number, origin.at, message, origin.run_id, origin.model)


def messages_since_pause(
    connection: sqlite3.Connection, key: SessionKey, seconds: float, damage: DamageLog
) -> int:
    """SessionCatalog.messages_since_pause."""
    with snapshot(connection):
        current = find_current(connection, key)
        if current is None:
            return 0
        place, cells = current.place, Cells(str(key), damage)
        later: tuple[int, float] | None = None
        with closing(connection.execute(_TIMES, {"transcript": place.transcript})) as rows:
            for first, at in rows:
                first, at = cells.count("first_message", first), cells.time("at", at)
                if later is not None and later[1] - at >= seconds:
                    return place.messages - later[0] + 1
                later = first, at
        return place.messages


def read_transcripts(
    connection: sqlite3.Connection, key: SessionKey, limit: int, damage: DamageLog
) -> tuple[KeptTranscript, ...]:
    """SessionCatalog.transcripts."""
    with snapshot(connection):
        current = find_current(connection, key)
        if current is None:
            return ()
        newest = (current.session, bounded(limit))
        cells = Cells(str(key), damage)
        return tuple(
            KeptTranscript(
                cells.text("session_id", session_id),
                cells.time("created_at", at),
                cells.count("message_count", count),
                _first_question(connection, transcript, cells),
            )
            for transcript, session_id, at, count in connection.execute(_TRANSCRIPTS, newest)
        )


def _first_question(connection: sqlite3.Connection, transcript: int, cells: Cells) -> str | None:
    row = connection.execute(_FIRST_QUESTION, (transcript,)).fetchone()
    return None if row is None else cells.message(row[0], "user", row[1]).text
