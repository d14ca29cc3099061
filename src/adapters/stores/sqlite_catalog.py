"""What a session catalog reads from its SQLite database, as functions of a connection.

All of them raise sqlite3.Error, and Undecodable for what is damaged.
"""

from __future__ import annotations

import sqlite3
from functools import partial

from ...domain.session_records import SessionInfo, SessionPage, SessionQuery
from ...domain.sessions import SessionKey
from .codec import decode_settings
from .searching import found
from .sqlite_columns import bounded, column, snapshot, text

_CURRENT_ID = "(SELECT max(id) FROM transcripts AS other WHERE other.session = sessions.id)"
_INFO = f"""
    SELECT sessions.key, sessions.agent_id, transcripts.session_id, sessions.created_at,
           sessions.updated_at, transcripts.message_count, transcripts.input_tokens,
           transcripts.output_tokens, sessions.model, sessions.one_off, sessions.settings
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
_FOUND = """is_found(key, label, (
    SELECT session_id FROM transcripts WHERE session = sessions.id ORDER BY id DESC LIMIT 1))"""

_Row = tuple[
    str | bytes, str | bytes, str | bytes, float, float, int, int, int, str | bytes, int, bytes
]


def list_sessions(connection: sqlite3.Connection, query: SessionQuery) -> SessionPage:
    """SessionCatalog.list."""
    where, values = _conditions(query)
    if query.search is not None:
        connection.create_function("is_found", 3, partial(_is_found, query.search))
    page = (*values, bounded(query.limit), bounded(query.offset))
    with snapshot(connection):
        (total,) = connection.execute(_TOTAL.format(where=where), values).fetchone()
        rows = connection.execute(_PAGE.format(where=where), page).fetchall()
    return SessionPage(tuple(map(_info, rows)), total)


def find_session(connection: sqlite3.Connection, key: SessionKey) -> SessionInfo | None:
    """SessionCatalog.find; inside a transaction, as the transaction has it."""
    row = connection.execute(_ONE, (column(str(key)),)).fetchone()
    return None if row is None else _info(row)


def find_by_id(connection: sqlite3.Connection, session_id: str) -> tuple[SessionInfo, ...]:
    """SessionCatalog.find_by_id."""
    return tuple(map(_info, connection.execute(_BY_ID, {"id": column(session_id)})))


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


def _is_found(search: str, *columns: str | bytes | None) -> bool:
    return found(search, *(None if value is None else text(value) for value in columns))


def _info(row: _Row) -> SessionInfo:
    key, agent_id, session_id, created_at, updated_at, *counts, model, one_off, settings = row
    messages, input_tokens, output_tokens = counts
    return SessionInfo(
        key=key_of(text(key), text(agent_id)),
        session_id=text(session_id),
        created_at=created_at,
        updated_at=updated_at,
        message_count=messages,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        model=text(model),
        one_off=bool(one_off),
        settings=decode_settings(settings),
    )


def key_of(key: str, agent_id: str) -> SessionKey:
    """The key whose text this is; an agent id that holds a colon is not taken apart."""
    return SessionKey(agent_id, key[len(str(SessionKey(agent_id, ""))) :])
