"""What a session catalog lists in PostgreSQL."""

from __future__ import annotations

from typing import Any

from .....domain.sessions import SessionInfo, SessionKey, SessionPage, SessionQuery
from ...common import Cells, DamageLog, text
from ..columns import bounded, data, searchable
from ..database import Connection, fetch_all

_INFO = """
    SELECT sessions.key, sessions.agent_id, place.session_id, sessions.created_at,
           sessions.updated_at, place.message_count, place.input_tokens, place.output_tokens,
           (SELECT count(*) FROM summaries WHERE summaries.transcript = place.id),
           sessions.model, sessions.one_off, sessions.settings
    FROM sessions JOIN LATERAL (
        SELECT * FROM transcripts WHERE session = sessions.id ORDER BY id DESC LIMIT 1
    ) AS place ON true
    WHERE {where} ORDER BY sessions.updated_at DESC, sessions.id DESC"""
ONE = _INFO.format(where="sessions.key = %s")
BY_ID = _INFO.format(
    where="""place.session_id = %(id)s
        AND sessions.id IN (SELECT session FROM transcripts WHERE session_id = %(id)s)"""
)
# The page is found first; only its sessions are looked up.
_PAGE = _INFO.format(
    where="""sessions.id IN (
        SELECT id FROM sessions WHERE {where} ORDER BY updated_at DESC, id DESC
        LIMIT %(limit)s OFFSET %(offset)s)"""
)
_TOTAL = "SELECT count(*) FROM sessions WHERE {where}"
_FOUND = """(strpos(search_key, %(search)s) > 0 OR strpos(search_label, %(search)s) > 0 OR strpos((
    SELECT search_id FROM transcripts WHERE session = sessions.id ORDER BY id DESC LIMIT 1
    ), %(search)s) > 0)"""


async def list_sessions(
    connection: Connection, query: SessionQuery, damage: DamageLog
) -> SessionPage:
    """SessionCatalog.list, inside a transaction that sees one state."""
    where, values = _conditions(query)
    page = {**values, "limit": bounded(query.limit), "offset": bounded(query.offset)}
    total = await fetch_all(connection, _TOTAL.format(where=where), values)
    rows = await fetch_all(connection, _PAGE.format(where=where), page)
    return SessionPage(tuple(info_of(row, damage) for row in rows), total[0][0])


def info_of(row: tuple[Any, ...], damage: DamageLog) -> SessionInfo:
    """What lists show of a row of `ONE` or `BY_ID`."""
    key, agent_id, session_id, created_at, updated_at, *counts, model, one_off, settings = row
    messages, input_tokens, output_tokens, compactions = counts
    return SessionInfo(
        key=key_of(text(key), text(agent_id)),
        session_id=text(session_id),
        created_at=created_at,
        updated_at=updated_at,
        message_count=messages,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        model=text(model),
        one_off=one_off,
        compactions=compactions,
        settings=Cells(repr(key), damage).settings("settings", settings),
    )


def key_of(key: str, agent_id: str) -> SessionKey:
    """The key whose text this is; an agent id that holds a colon is not taken apart."""
    return SessionKey(agent_id, key[len(str(SessionKey(agent_id, ""))) :])


def _conditions(query: SessionQuery) -> tuple[str, dict[str, object]]:
    """What a query asks of a row of `sessions`."""
    conditions: list[str] = []
    values: dict[str, object] = {}
    columns = {"agent_id": query.agent_id, "label": query.label, "spawned_by": query.spawned_by}
    for name, wanted in columns.items():
        if wanted is not None:
            conditions.append(f"{name} = %({name})s")
            values[name] = data(wanted)
    if query.updated_after is not None:
        conditions.append("updated_at > %(updated_after)s")
        values["updated_after"] = query.updated_after
    if query.search is not None:
        conditions.append(_FOUND)
        values["search"] = searchable(query.search)
    return " AND ".join(conditions) or "true", values
