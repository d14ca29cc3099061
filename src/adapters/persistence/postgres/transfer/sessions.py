"""Sessions, and what is kept beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from ...common import text
from ..columns import searchable
from ..database import Connection
from .parts import Column, Files, Kind, Part, copy_rows, copy_units

_OF_SESSION = """
    FROM {table} x JOIN transcripts t ON t.id = x.transcript JOIN sessions s ON s.id = t.session
    WHERE {{keys}} ORDER BY t.id, x.{order}"""


def _behind_transcripts(table: str, order: str, *columns: Column) -> Part:
    key, owner = Column("s.key"), Column("t.id", "owner", name="transcript")
    return Part(table, (key, owner, *columns), _OF_SESSION.format(table=table, order=order))


_TOKENS = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")
_SESSION = Part(
    "sessions",
    (
        Column("s.key"),
        Column("s.agent_id"),
        Column("s.created_at", "float"),
        Column("s.updated_at", "float"),
        Column("s.one_off", "flag"),
        Column("s.model"),
        Column("s.settings", nullable=True),
        Column("s.label", nullable=True),
        Column("s.spawned_by", nullable=True),
        Column("s.size", "int"),
    ),
    "FROM sessions s WHERE {keys} ORDER BY s.id",
)
_TRANSCRIPTS = Part(
    "transcripts",
    (
        Column("s.key"),
        Column("t.id", "owner"),
        Column("t.session_id"),
        Column("t.created_at", "float"),
        Column("t.turn_count", "int"),
        Column("t.message_count", "int"),
        Column("t.input_tokens", "int"),
        Column("t.output_tokens", "int"),
    ),
    "FROM transcripts t JOIN sessions s ON s.id = t.session WHERE {keys} ORDER BY t.id",
)
_BEHIND = (
    _behind_transcripts(
        "turns",
        "number",
        Column("x.number", "int"),
        Column("x.run_id"),
        Column("x.at", "float"),
        Column("x.model"),
        *(Column(f"x.{name}", "int", nullable=True) for name in _TOKENS),
        Column("x.usage_estimated", "flag", nullable=True),
        Column("x.first_message", "int"),
        Column("x.message_count", "int"),
        Column("x.stop", "text"),
    ),
    _behind_transcripts(
        "messages",
        "number",
        Column("x.number", "int"),
        Column("x.tokens", "int"),
        Column("x.role", "text"),
        Column("x.body", "body"),
    ),
    _behind_transcripts(
        "copies",
        "first_message",
        Column("x.first_message", "int"),
        Column("x.message_count", "int"),
        Column("x.run_id"),
    ),
    _behind_transcripts(
        "summaries",
        "through",
        Column("x.through", "int"),
        Column("x.at", "float"),
        Column("x.model"),
        Column("x.tokens_before", "int"),
        Column("x.body", "body"),
    ),
)
_KEPT_FROM = "SELECT key, kept_from FROM sessions WHERE key IN ({marks})"
_INSERT_SESSION = """
    INSERT INTO sessions (key, agent_id, created_at, updated_at, one_off, model, settings, label,
        spawned_by, size, search_key, search_label, kept_from)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"""
_INSERT_TRANSCRIPT = """
    INSERT INTO transcripts (session, session_id, created_at, turn_count, message_count,
        input_tokens, output_tokens, search_id)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"""


async def _write_sessions(
    connection: Connection, source: Files, kind: Kind, keys: Sequence[Any]
) -> None:
    marks = ", ".join("?" * len(keys))
    kept = {
        key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key: stamp
        for key, stamp in source.select("sessions", _KEPT_FROM.format(marks=marks), keys)
    }
    offset, now = source.offset("sessions"), time.time()
    sessions: dict[bytes, int] = {}
    for row in source.rows(kind, _SESSION, keys):
        key, label = row[0], row[7]
        stamp = kept[key]
        since = min(now, float(stamp) + offset) if isinstance(stamp, int | float) else now
        folded = None if label is None else searchable(text(label))
        values = (*row, searchable(text(key)), folded, since if row[4] else 0.0)
        sessions[key] = await _inserted(connection, _INSERT_SESSION, values)
    transcripts: dict[int, int] = {}
    for key, number, *columns in source.rows(kind, _TRANSCRIPTS, keys):
        values = (sessions[key], *columns, searchable(text(columns[0])))
        transcripts[number] = await _inserted(connection, _INSERT_TRANSCRIPT, values)
    for part in _BEHIND:
        names = part.names.partition(", ")[2]
        rows = _renumbered(source.rows(kind, part, keys), transcripts)
        await copy_rows(connection, part.table, names, part.types[1:], rows)


def _renumbered(
    rows: Iterator[tuple[Any, ...]], transcripts: dict[int, int]
) -> Iterator[Sequence[object]]:
    for _, transcript, *columns in rows:
        yield transcripts[transcript], *columns


async def _inserted(connection: Connection, query: str, values: Sequence[object]) -> int:
    row = await (await connection.execute(query, values)).fetchone()
    assert row is not None  # noqa: S101 - the statement returns a row
    return int(row[0])


def _table(name: str, order: str, *columns: Column, sqlite: str = "") -> Part:
    rows = f"FROM {{table}} x WHERE {{{{keys}}}} ORDER BY {order}"
    there = rows.format(table=name)
    return Part(name, columns, rows.format(table=sqlite) if sqlite else there, there)


KINDS = (
    Kind(
        "sessions",
        "sessions",
        "SELECT key FROM sessions ORDER BY id",
        (_SESSION, _TRANSCRIPTS, *_BEHIND),
        _write_sessions,
    ),
    Kind(
        "open turns",
        "sessions",
        "SELECT run_id FROM open_turns ORDER BY run_id",
        (
            _table(
                "open_turns",
                "x.run_id",
                Column("x.run_id"),
                Column("x.key"),
                Column("x.attempt", "int"),
                Column("x.body", "body"),
            ),
            _table(
                "steps",
                "x.run_id, x.number",
                Column("x.run_id"),
                Column("x.number", "int4"),
                Column("x.body", "body"),
            ),
        ),
        copy_units,
        passed="""
            SELECT id FROM runs WHERE id = ANY(%(keys)s::bytea[])
                AND (claimed_at IS NOT NULL OR state = 'ended')
            UNION SELECT run_id FROM turns WHERE run_id = ANY(%(keys)s::bytea[])""",
    ),
    Kind(
        "approvals",
        "sessions",
        "SELECT id FROM approvals ORDER BY created_at, id",
        (
            _table(
                "approvals",
                "x.id",
                Column("x.id"),
                Column("x.run_id"),
                Column("x.created_at", "float"),
                Column("x.expires_at", "float"),
                Column("x.body", "body"),
                Column("x.decision", "text", nullable=True),
                Column("x.decided_by", nullable=True),
                Column("x.decided_at", "float", nullable=True),
            ),
        ),
        copy_units,
    ),
    Kind(
        "standing approvals",
        "sessions",
        "SELECT subject FROM always_allowed ORDER BY granted_at, subject",
        (
            _table(
                "always_allowed",
                "x.subject",
                Column("x.subject"),
                Column("x.granted_by"),
                Column("x.granted_at", "float"),
                Column("x.body", "body"),
            ),
        ),
        copy_units,
    ),
    Kind(
        "responses",
        "sessions",
        "SELECT id FROM responses ORDER BY number",
        (
            _table(
                "responses",
                "x.number",
                Column("x.id"),
                Column("x.session_key"),
                Column("x.conversation"),
                Column("x.settled", "flag"),
                Column("x.hidden", "flag"),
                Column("x.created_at", "float"),
                Column("length(x.body)", "int", name="size"),
                Column("x.body", "body"),
            ),
        ),
        copy_units,
    ),
    Kind(
        "conversations",
        "sessions",
        "SELECT id FROM conversations ORDER BY created_at, id",
        (
            _table(
                "conversations",
                "x.id",
                Column("x.id"),
                Column("x.principal_id"),
                Column("x.created_at", "float"),
                Column("x.metadata"),
                # A trigger adds the items.
                Column("4096 + length(x.metadata)", "int", name="bytes"),
            ),
            _table(
                "conversation_items",
                "x.conversation, x.number",
                Column("x.conversation"),
                Column("x.id"),
                Column("x.body", "body"),
            ),
        ),
        copy_units,
    ),
    Kind(
        "API keys",
        "keys",
        "SELECT id FROM keys ORDER BY id",
        (_table("api_keys", "x.id", Column("x.id"), Column("x.record", "body"), sqlite="keys"),),
        copy_units,
    ),
    Kind(
        "usage of keys",
        "keys",
        "SELECT DISTINCT key_id FROM key_usage ORDER BY key_id",
        (
            _table(
                "key_usage",
                "x.key_id, x.day",
                Column("x.key_id"),
                Column("x.day", "text"),
                *(Column(f"x.{name}", "int") for name in ("requests", "runs", "input", "output")),
                Column("x.cached", "int"),
                Column("x.cost", "float"),
                Column("x.unpriced", "int"),
            ),
        ),
        copy_units,
    ),
)
"""In the order in which they are copied."""
