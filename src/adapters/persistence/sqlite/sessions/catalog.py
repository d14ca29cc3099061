"""What a session catalog reads from its SQLite database, as functions of a connection.

All of them raise sqlite3.Error. A damaged cell is left out of what they return, and logged.
"""

from __future__ import annotations

import sqlite3
from functools import partial

from .....domain.sessions import SessionInfo, SessionKey, SessionPage, SessionQuery
from ...common import Cells, DamageLog, found
from ..columns import bounded, column, snapshot

_CURRENT_ID = "(SELECT max(id) FROM transcripts AS other WHERE other.session = sessions.id)"
_INFO = f"""
    SELECT sessions.key, sessions.agent_id, transcripts.session_id, sessions.created_at,
           sessions.updated_at, transcripts.message_count, transcripts.input_tokens,
           transcripts.output_tokens,
           (SELECT count(*) FROM summaries WHERE summaries.transcript = transcripts.id),
           sessions.model, sessions.one_off, sessions.settings
    FROM sessions JOIN transcripts ON transcripts.id = {_CURRENT_ID}
    WHERE {{where}} ORDER BY sessions.updated_at DESC, sessions.id DESC"""  # noqa: S608
_ONE = _INFO.format(where="sessions.key = ?")
_BY_ID = _INFO.format(
    where="""transcripts.session_id = :id
        AND sessions.id IN (SELECT session FROM transcripts WHERE session_id = :id)"""
)
# The page is found first, in an index alone where possible; only its sessions are looked up.
_PAGE = _INFO.format(
    where="""sessions.id IN (
        SELECT id FROM sessions WHERE {where} ORDER BY updated_at DESC, id DESC LIMIT ? OFFSET ?)"""
)
_TOTAL = "SELECT count(*) FROM sessions WHERE {where}"
# As blobs: Python's sqlite3 fails the query where a text that is no UTF-8 goes into a function.
_FOUND = """is_found(CAST(key AS BLOB), CAST(label AS BLOB), CAST((
    SELECT session_id FROM transcripts WHERE session = sessions.id ORDER BY id DESC LIMIT 1
    ) AS BLOB))"""

_Row = tuple[object, ...]


def list_sessions(
    connection: sqlite3.Connection, query: SessionQuery, damage: DamageLog
) -> SessionPage:
    """SessionCatalog.list."""
    where, values = _conditions(query)
    if query.search is not None:
        connection.create_function("is_found", 3, partial(_is_found, query.search))
    page = (*values, bounded(query.limit), bounded(query.offset))
    with snapshot(connection):
        (total,) = connection.execute(_TOTAL.format(where=where), values).fetchone()
        rows = connection.execute(_PAGE.format(where=where), page).fetchall()
    return SessionPage(tuple(_info(row, damage) for row in rows), total)


def find_session(
    connection: sqlite3.Connection, key: SessionKey, damage: DamageLog
) -> SessionInfo | None:
    """SessionCatalog.find; inside a transaction, as the transaction has it."""
    row = connection.execute(_ONE, (column(str(key)),)).fetchone()
    return None if row is None else _info(row, damage)


def find_by_id(
    connection: sqlite3.Connection, session_id: str, damage: DamageLog
) -> tuple[SessionInfo, ...]:
    """SessionCatalog.find_by_id."""
    rows = connection.execute(_BY_ID, {"id": column(session_id)})
    return tuple(_info(row, damage) for row in rows)


def _conditions(query: SessionQuery) -> tuple[str, tuple[str | bytes | float, ...]]:
    """What a query asks of a row of `sessions`: a condition, and the values of its marks."""
    conditions: list[str] = []
    values: list[str | bytes | float] = []
    columns = {"agent_id": query.agent_id, "label": query.label, "spawned_by": query.spawned_by}
    for name, wanted in columns.items():
        if wanted is not None:
            conditions.append(f"{name} = ?")
            values.append(column(wanted))
    if query.updated_after is not None:
        conditions.append("updated_at > ?")
        values.append(query.updated_after)
    if query.search is not None:
        conditions.append(_FOUND)
    return " AND ".join(conditions) or "TRUE", tuple(values)


def _is_found(search: str, *columns: bytes | None) -> bool:
    """SQLite calls this for each row; to raise here would fail the whole query."""
    return found(search, *(None if value is None else _readable(value) for value in columns))


def _readable(value: bytes) -> str:
    try:
        return value.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return value.decode("utf-8", "replace")


def _info(row: _Row, damage: DamageLog) -> SessionInfo:
    key, agent_id, session_id, created_at, updated_at, *counts, model, one_off, settings = row
    messages, input_tokens, output_tokens, compactions = counts
    cells = Cells(str(key), damage)
    return SessionInfo(
        key=key_of(cells.text("key", key), cells.text("agent_id", agent_id)),
        session_id=cells.text("session_id", session_id),
        created_at=cells.time("created_at", created_at),
        updated_at=cells.time("updated_at", updated_at),
        message_count=cells.count("message_count", messages),
        input_tokens=cells.count("input_tokens", input_tokens),
        output_tokens=cells.count("output_tokens", output_tokens),
        model=cells.text("model", model),
        one_off=bool(one_off),
        compactions=cells.count("compactions", compactions),
        settings=cells.settings("settings", settings),
    )


def key_of(key: str, agent_id: str) -> SessionKey:
    """The key whose text this is; an agent id that holds a colon is not taken apart."""
    return SessionKey(agent_id, key[len(str(SessionKey(agent_id, ""))) :])
