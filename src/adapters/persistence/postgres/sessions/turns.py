"""Turns in PostgreSQL: statements that call the functions of `0002_turns.sql`, in one trip each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .....domain.errors import StoreFailed
from .....domain.messages import Message, Role
from .....domain.models import Usage
from .....domain.ports import StoredSession, Transcript, Turn
from .....domain.sessions import SessionKey, Summary, estimate, estimate_sent, fitting
from ...common import MAX_INTEGER, Cells, encode, text
from ..columns import bounded, data, searchable
from ..database import Values

APPEND = """
    SELECT append_turn(
        %s::bytea, %s::text, %s::bytea, %s::bytea, %s::text, %s::bytea, %s::bigint, %s::float8,
        %s::bytea, %s::boolean, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::boolean,
        %s::bytea, %s::bigint, %s::boolean, %s::text, %s::bigint[], %s::text[], %s::bytea[],
        coalesce(%s::float8, extract(epoch FROM clock_timestamp())))"""
LOAD = "SELECT * FROM load_session(%s::bytea, %s::bigint, %s::bigint)"
PUT_SUMMARY = """
    SELECT put_summary(
        %s::bytea, %s::bytea, %s::bigint, %s::float8, %s::bytea, %s::bigint, %s::bytea, %s::bytea,
        %s::bigint)"""


def append_values(turn: Turn, now: float | None) -> Values:
    """`now`: the time from which a one-off session is kept; None: that of the database."""
    key, span = str(turn.key), turn.history
    return (
        data(key),
        searchable(key),
        data(turn.key.agent_id),
        data(turn.session_id),
        searchable(turn.session_id),
        data(turn.run_id),
        turn.attempt,
        turn.at,
        data(turn.model),
        turn.one_off,
        *_usage_columns(turn.usage),
        None if span is None else data(span.session_id),
        0 if span is None else bounded(span.through),
        span is not None and span.exact,
        "" if turn.stop is None else str(turn.stop),
        [estimate(message) for message in turn.messages],
        [str(message.role) for message in turn.messages],
        [encode(message) for message in turn.messages],
        now,
    )


def load_values(key: SessionKey, budget: int, result_chars: int | None) -> Values:
    chars = None if result_chars is None else bounded(result_chars)
    return data(str(key)), bounded(budget), chars


def loaded_session(
    row: tuple[Any, ...], key: SessionKey, budget: int, result_chars: int | None, cells: Cells
) -> StoredSession:
    """The session of a row of `LOAD`."""
    session_id, updated_at, settings, count, *summary, tokens, numbers, roles, bodies = row
    behind = summary[0] or 0
    rows = zip(tokens or (), numbers or (), roles or (), bodies or (), strict=True)
    newest = list(_within(rows, budget, result_chars, cells))
    kept = _summary(*summary, cells=cells)
    read = Transcript(tuple(newest[::-1]), len(newest) == count - behind, summary=kept)
    return StoredSession(
        key=key,
        session_id=text(session_id),
        updated_at=updated_at,
        message_count=count,
        tail=fitting(read, budget, count - behind, result_chars),
        settings=cells.settings("settings", settings),
    )


def summary_values(
    key: SessionKey, session_id: str, summary: Summary, run_id: str, attempt: int
) -> Values:
    return (
        data(str(key)),
        data(session_id),
        bounded(summary.through),
        summary.at,
        data(summary.model),
        bounded(summary.tokens_before),
        data(summary.text),
        data(run_id),
        attempt,
    )


def one_value(row: tuple[Any, ...] | None) -> Any:
    """What a function of the schema returned."""
    if row is None:
        raise StoreFailed("A function of the database returned no row.")
    return row[0]


def _within(
    rows: Iterator[tuple[int, int, str, bytes]],
    budget: int,
    result_chars: int | None,
    cells: Cells,
) -> Iterator[Message]:
    """The messages, newest first, for as long as the budget lasts."""
    for tokens, number, role, body in rows:
        message = cells.message(number, role, body)
        size = tokens
        if result_chars is not None and role == Role.TOOL.value:
            size = min(size, estimate_sent(message, result_chars))
        budget -= size
        if budget < 0:
            return
        yield message


def _summary(
    through: int | None, at: float, model: bytes, tokens: int, body: bytes, *, cells: Cells
) -> Summary | None:
    if through is None:
        return None
    return Summary(
        text=cells.text("summary", body),
        through=through,
        tokens_before=tokens,
        model=cells.text("model", model),
        at=at,
    )


def _usage_columns(usage: Usage | None) -> tuple[int | None, ...]:
    """What providers report is kept within what a bigint holds."""
    if usage is None:
        return (None,) * 5
    counts = (usage.input, usage.output, usage.reasoning, usage.cached)
    return (*(max(-1, min(count, MAX_INTEGER)) for count in counts), usage.estimated)
