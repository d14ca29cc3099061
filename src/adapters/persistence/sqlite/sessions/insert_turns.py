"""Takes turns into a session store's SQLite database: any number of them in three statements.

Few statements, for the reason in `rows`. The rows of many turns go into a view at once, and
triggers, which SQLite runs by itself, put what they hold into the tables. View and triggers are the
connection's own: there is nothing of them in the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from .....domain.errors import LeaseLost
from .....domain.models import Usage
from .....domain.ports import Turn
from .....domain.sessions import estimate
from ...common import MAX_INTEGER, encode, text
from ..columns import column
from ..rows import AT_ONCE, insert_rows
from .transcripts import IS_COUNTED, MESSAGES, TURNS, begin_copy, find_current, find_named

_TURN = """
    key, agent_id, session_id, at, one_off, run_id, model, input_tokens, output_tokens,
    reasoning_tokens, cached_tokens, usage_estimated, message_count, kept_from, size,
    stop"""
_NULLS = ", ".join(f"NULL AS {name.strip()}" for name in _TURN.split(","))
# The newest transcript of that id: of others by the same id nobody knows any more.
_PLACE = """
    SELECT transcripts.id FROM sessions JOIN transcripts ON transcripts.session = sessions.id
    WHERE sessions.key = NEW.key AND transcripts.session_id = NEW.session_id
    ORDER BY transcripts.id DESC LIMIT 1"""
_CURRENT = """
    SELECT session_id FROM transcripts WHERE session = sessions.id ORDER BY id DESC LIMIT 1"""

_BYTES = "SELECT coalesce(sum(length(body)), 0) FROM messages WHERE transcript = ?"
_ANY_OPEN = "SELECT 1 FROM open_turns LIMIT 1"
_ATTEMPT = "SELECT attempt FROM open_turns WHERE run_id = ?"

INCOMING: Sequence[str] = (
    f"CREATE TEMP VIEW incoming_turns AS SELECT {_NULLS}",
    # A session that is not there yet begins, and so does a transcript. Who comes back to a one-off
    # session by its key has made it a lasting one. A turn that goes to an earlier transcript is
    # none that lists tell of. Counts that are damaged are counted again first.
    f"""CREATE TEMP TRIGGER take_turn INSTEAD OF INSERT ON incoming_turns BEGIN
        INSERT INTO sessions
            (key, agent_id, created_at, updated_at, one_off, model, kept_from, size)
            VALUES (NEW.key, NEW.agent_id, NEW.at, NEW.at, NEW.one_off, NEW.model, NEW.kept_from,
                    NEW.size)
            ON CONFLICT (key) DO UPDATE SET kept_from = NEW.kept_from, size = size + NEW.size
                WHERE one_off = 1 AND NEW.one_off = 1;
        INSERT INTO transcripts (session, session_id, created_at, turn_count, message_count)
            SELECT id, NEW.session_id, NEW.at, 0, 0 FROM sessions
            WHERE key = NEW.key AND NOT EXISTS ({_PLACE});
        UPDATE transcripts SET turn_count = {TURNS}, message_count = {MESSAGES}
            WHERE id = ({_PLACE}) AND NOT ({IS_COUNTED});
        UPDATE sessions SET updated_at = NEW.at, model = NEW.model
            WHERE key = NEW.key AND (updated_at <> NEW.at OR model <> NEW.model)
                AND NEW.session_id = ({_CURRENT});
        UPDATE sessions SET one_off = NEW.one_off WHERE key = NEW.key AND one_off > NEW.one_off;
        INSERT INTO turns
            SELECT id, turn_count + 1, NEW.run_id, NEW.at, NEW.model, NEW.input_tokens,
                   NEW.output_tokens, NEW.reasoning_tokens, NEW.cached_tokens,
                   NEW.usage_estimated, message_count + 1, NEW.message_count, NEW.stop
            FROM transcripts WHERE id = ({_PLACE});
        UPDATE transcripts SET
            turn_count = turn_count + 1, message_count = message_count + NEW.message_count,
            input_tokens = min(input_tokens + max(coalesce(NEW.input_tokens, 0), 0), {MAX_INTEGER}),
            output_tokens =
                min(output_tokens + max(coalesce(NEW.output_tokens, 0), 0), {MAX_INTEGER})
            WHERE id = (SELECT transcript FROM turns WHERE run_id = NEW.run_id);
    END""",  # noqa: S608 - no values in it
    """CREATE TEMP VIEW incoming_messages AS
        SELECT NULL AS run_id, NULL AS place, NULL AS tokens, NULL AS role, NULL AS body""",
    """CREATE TEMP TRIGGER take_message INSTEAD OF INSERT ON incoming_messages BEGIN
        INSERT INTO messages
            SELECT transcript, first_message + NEW.place, NEW.tokens, NEW.role, NEW.body
            FROM turns WHERE run_id = NEW.run_id;
    END""",
)
"""To be run on the connection that writes."""


def append_turns(
    connection: sqlite3.Connection, turns: Sequence[Turn], kept_from: float = 0.0
) -> list[int]:
    """SessionStore.append of each, inside the caller's transaction. Returns the bytes of each, one
    at least; 0: it was stored already.

    Raises sqlite3.Error, and LeaseLost for a turn whose Run a later attempt has.
    """
    stored = _stored(connection, [turn.run_id for turn in turns])
    if connection.execute(_ANY_OPEN).fetchone() is not None:
        _close(connection, turns)
    new: dict[str, Turn] = {}
    rows, messages, sizes = [], [], []
    for turn in turns:
        if turn.run_id in stored or turn.run_id in new:
            sizes.append(0)
            continue
        new[turn.run_id] = turn
        size = 0
        if turn.history is not None and turn.history.session_id != turn.session_id:
            turn, size = _branched(connection, turn)
        bodies = [encode(message) for message in turn.messages]
        size += sum(map(len, bodies))
        sizes.append(max(1, size))
        rows.append(_turn_row(turn, kept_from, size))
        messages.append(_message_rows(turn, bodies))
    insert_rows(connection, "INSERT INTO incoming_turns VALUES", rows)
    everything = chain.from_iterable(messages)
    insert_rows(connection, "INSERT INTO incoming_messages VALUES", everything)
    return sizes


def _close(connection: sqlite3.Connection, turns: Sequence[Turn]) -> None:
    """Remove the open turns of the Runs. Raises LeaseLost."""
    for turn in turns:
        run_id = column(turn.run_id)
        row = connection.execute(_ATTEMPT, (run_id,)).fetchone()
        if row is not None:
            if turn.attempt and row[0] > turn.attempt:
                raise LeaseLost(f"A later attempt of run {turn.run_id!r} has stored a step.")
            connection.execute("DELETE FROM open_turns WHERE run_id = ?", (run_id,))


def _branched(connection: sqlite3.Connection, turn: Turn) -> tuple[Turn, int]:
    """The turn for the transcript it is to be added to, which begins here if it is a branch; and
    how many bytes of a one-off session were copied for it."""
    span, current = turn.history, find_current(connection, turn.key)
    if span is None or current is None:
        return turn, 0
    if find_named(connection, current.session, turn.session_id) is not None:
        return turn, 0
    if text(current.session_id) != span.session_id:
        origin = find_named(connection, current.session, span.session_id)
        if origin is None:
            return turn, 0
        if not span.exact:
            return replace(turn, session_id=span.session_id), 0
        current = replace(current, place=origin)
    through = max(0, min(span.through, current.place.messages))
    begin_copy(connection, current, 0, through, turn.at, turn.session_id)
    if not turn.one_off:
        return turn, 0
    place = find_named(connection, current.session, turn.session_id)
    (copied,) = connection.execute(_BYTES, (place.transcript if place else 0,)).fetchone()
    return turn, copied


def _stored(connection: sqlite3.Connection, run_ids: Sequence[str]) -> set[str]:
    """Those of the Runs that have stored their turn."""
    found: set[str] = set()
    for start in range(0, len(run_ids), AT_ONCE):
        some = run_ids[start : start + AT_ONCE]
        marks = ", ".join("?" * len(some))
        sql = f"SELECT run_id FROM turns WHERE run_id IN ({marks})"  # noqa: S608 - only marks
        rows = connection.execute(sql, [column(run_id) for run_id in some]).fetchall()
        known = {run_id for (run_id,) in rows}
        found.update(run_id for run_id in some if column(run_id) in known)
    return found


def _turn_row(turn: Turn, kept_from: float, size: int) -> tuple[object, ...]:
    return (
        column(str(turn.key)),
        column(turn.key.agent_id),
        column(turn.session_id),
        turn.at,
        int(turn.one_off),
        column(turn.run_id),
        column(turn.model),
        *_usage_columns(turn.usage),
        len(turn.messages),
        kept_from,
        size,
        "" if turn.stop is None else str(turn.stop),
    )


def _message_rows(turn: Turn, bodies: Sequence[bytes]) -> Iterator[tuple[object, ...]]:
    run_id = column(turn.run_id)
    for place, (message, body) in enumerate(zip(turn.messages, bodies, strict=True)):
        yield run_id, place, estimate(message), str(message.role), body


def _usage_columns(usage: Usage | None) -> tuple[int | None, ...]:
    """What providers report is kept within what SQLite can hold."""
    if usage is None:
        return (None,) * 5
    counts: tuple[int, ...] = (usage.input, usage.output, usage.reasoning, usage.cached)
    if max(counts) > MAX_INTEGER or min(counts) < -1:
        counts = tuple(max(-1, min(count, MAX_INTEGER)) for count in counts)
    return (*counts, int(usage.estimated))
