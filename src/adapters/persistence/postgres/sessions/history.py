"""What was said in the sessions in PostgreSQL, as functions of a connection inside a transaction
that sees one state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .....domain.messages import Message
from .....domain.models import Usage
from .....domain.ports import Turn
from .....domain.sessions import KeptMessage, KeptTranscript, SessionKey, Span
from ...common import Cells, DamageLog, decode, decode_stop, text
from ..columns import bounded, data
from ..database import Connection, fetch_all, fetch_one
from .catalog import key_of

_TURN = """
    SELECT sessions.key, sessions.agent_id, sessions.one_off, transcripts.session_id,
           turns.transcript, turns.at, turns.model, turns.first_message, turns.message_count,
           turns.input_tokens, turns.output_tokens, turns.reasoning_tokens, turns.cached_tokens,
           turns.usage_estimated, turns.stop
    FROM turns JOIN transcripts ON transcripts.id = turns.transcript
    JOIN sessions ON sessions.id = transcripts.session
    WHERE turns.run_id = %s"""
_SPAN = """
    SELECT transcripts.session_id, turns.first_message + turns.message_count - 1
    FROM turns JOIN transcripts ON transcripts.id = turns.transcript WHERE turns.run_id = %s"""
_OF_TURN = """
    SELECT body FROM messages
    WHERE transcript = %s AND number >= %s AND number < %s ORDER BY number"""
_PLACE = """
    SELECT transcripts.id, transcripts.message_count
    FROM sessions JOIN transcripts ON transcripts.session = sessions.id
    WHERE sessions.key = %(key)s
        AND (%(id)s::bytea IS NULL OR transcripts.session_id = %(id)s::bytea)
    ORDER BY transcripts.id DESC LIMIT 1"""
_ORIGINS = """
    SELECT first_message, message_count, run_id, at, model FROM turns
    WHERE transcript = %(transcript)s
        AND first_message <= %(last)s AND first_message + message_count > %(first)s
    UNION ALL
    SELECT copies.first_message, copies.message_count, turns.run_id, turns.at, turns.model
    FROM copies JOIN turns ON turns.run_id = copies.run_id
    WHERE copies.transcript = %(transcript)s AND copies.first_message <= %(last)s
        AND copies.first_message + copies.message_count > %(first)s"""
_TRANSCRIPTS = """
    SELECT session_id, created_at, message_count, question.number, question.body
    FROM transcripts LEFT JOIN LATERAL (
        SELECT number, body FROM messages
        WHERE transcript = transcripts.id AND role = 'user' ORDER BY number LIMIT 1
    ) AS question ON true
    WHERE session = (SELECT id FROM sessions WHERE key = %s) ORDER BY id DESC LIMIT %s"""
# The turns of the current transcript, and the time between each and the one after it.
_SINCE_PAUSE = """
    WITH place AS (
        SELECT transcripts.id, transcripts.message_count
        FROM sessions JOIN transcripts ON transcripts.session = sessions.id
        WHERE sessions.key = %s ORDER BY transcripts.id DESC LIMIT 1
    ), told AS (
        SELECT first_message, at FROM turns
        WHERE transcript = (SELECT id FROM place) AND message_count > 0
        UNION ALL
        SELECT copies.first_message, turns.at FROM copies JOIN turns ON turns.run_id = copies.run_id
        WHERE copies.transcript = (SELECT id FROM place)
    ), later AS (
        SELECT at, lead(first_message) OVER by_place AS next, lead(at) OVER by_place AS next_at
        FROM told WINDOW by_place AS (ORDER BY first_message)
    )
    SELECT message_count - coalesce((SELECT max(next) FROM later WHERE next_at - at >= %s), 1) + 1
    FROM place"""
_MOST_BYTES = 8 * 1024 * 1024
"""Bytes of stored messages after which no more are read at once."""
# The first message, and those before it until there are `most` bytes. Fifty messages of the largest
# size would be a gigabyte, of which a client is shown little.
_BEFORE = """
    SELECT number, role, body FROM messages JOIN (
        SELECT number AS fitting, sum(length(body)) OVER (ORDER BY number DESC) - length(body)
            AS bytes
        FROM (SELECT number, body FROM messages WHERE transcript = %(transcript)s
              AND number < %(end)s ORDER BY number DESC LIMIT %(limit)s) AS newest
    ) AS sized ON number = fitting
    WHERE transcript = %(transcript)s AND bytes < %(most)s ORDER BY number"""


@dataclass(frozen=True, slots=True)
class _Origin:
    run_id: str
    at: float
    model: str


_UNKNOWN = _Origin("", 0.0, "")
"""Of a message whose turn is not known any more."""


async def find_span(connection: Connection, run_id: str) -> Span | None:
    """SessionCatalog.span."""
    row = await fetch_one(connection, _SPAN, (data(run_id),))
    return None if row is None else Span(text(row[0]), 0, row[1])


async def find_turn(connection: Connection, run_id: str) -> Turn | None:
    """SessionCatalog.turn."""
    row = await fetch_one(connection, _TURN, (data(run_id),))
    if row is None:
        return None
    key, agent_id, one_off, session_id, transcript, at, model, first, count, *usage, stop = row
    bodies = await fetch_all(connection, _OF_TURN, (transcript, first, first + count))
    return Turn(
        key=key_of(text(key), text(agent_id)),
        session_id=text(session_id),
        run_id=run_id,
        at=at,
        messages=tuple(decode(body) for (body,) in bodies),
        model=text(model),
        usage=_usage(*usage),
        one_off=one_off,
        stop=decode_stop(stop),
    )


def _usage(
    input_: int | None, output: int, reasoning: int, cached: int, estimated: bool
) -> Usage | None:
    """All are NULL where the provider reported none."""
    return None if input_ is None else Usage(input_, output, reasoning, cached, estimated)


async def read_messages(
    connection: Connection,
    key: SessionKey,
    limit: int,
    before: int | None,
    session_id: str | None,
    damage: DamageLog,
) -> tuple[KeptMessage, ...]:
    """SessionCatalog.messages."""
    named = {"key": data(str(key)), "id": None if session_id is None else data(session_id)}
    place = await fetch_one(connection, _PLACE, named)
    if place is None:
        return ()
    transcript, count = place
    end = count + 1 if before is None else bounded(before)
    read = {"transcript": transcript, "end": end, "limit": bounded(limit), "most": _MOST_BYTES}
    rows = await fetch_all(connection, _BEFORE, read)
    if not rows:
        return ()
    origins = await _origins(connection, transcript, rows[0][0], rows[-1][0])
    cells = Cells(str(key), damage)
    return tuple(
        _kept(number, cells.message(number, role, body), origins.get(number, _UNKNOWN))
        for number, role, body in rows
    )


async def _origins(
    connection: Connection, transcript: int, first: int, last: int
) -> dict[int, _Origin]:
    """Of which turn each message between the two is, also where it is a copy."""
    found: dict[int, _Origin] = {}
    span = {"transcript": transcript, "first": first, "last": last}
    for start, count, run_id, at, model in await fetch_all(connection, _ORIGINS, span):
        numbers = range(max(start, first), min(start + count, last + 1))
        found |= dict.fromkeys(numbers, _Origin(text(run_id), at, text(model)))
    return found


def _kept(number: int, message: Message, origin: _Origin) -> KeptMessage:
    return KeptMessage(number, origin.at, message, origin.run_id, origin.model)


async def messages_since_pause(connection: Connection, key: SessionKey, seconds: float) -> int:
    """SessionCatalog.messages_since_pause."""
    row = await fetch_one(connection, _SINCE_PAUSE, (data(str(key)), seconds))
    return 0 if row is None else int(row[0])


async def read_transcripts(
    connection: Connection, key: SessionKey, limit: int, damage: DamageLog
) -> tuple[KeptTranscript, ...]:
    """SessionCatalog.transcripts."""
    rows = await fetch_all(connection, _TRANSCRIPTS, (data(str(key)), bounded(limit)))
    cells = Cells(str(key), damage)
    return tuple(
        KeptTranscript(text(session_id), at, count, _question(number, body, cells))
        for session_id, at, count, number, body in rows
    )


def _question(number: int | None, body: Any, cells: Cells) -> str | None:
    return None if number is None else cells.message(number, "user", body).text
