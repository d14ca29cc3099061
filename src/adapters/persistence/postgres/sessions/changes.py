"""The last changes of sessions by any process."""

from __future__ import annotations

from typing import Final

from ..database import Database

_KEEP: Final = 600.0
"""Seconds for which a change is kept. A listening connection that breaks is made anew within
seconds; while the database is away, nothing changes."""
_MOST: Final = 1_000

_ADD = """
    WITH old AS (
        DELETE FROM session_changes WHERE id IN (
            SELECT id FROM session_changes WHERE at < server_now() - %s LIMIT 100
            FOR UPDATE SKIP LOCKED)
    )
    INSERT INTO session_changes VALUES (%s, %s, server_now(), %s) ON CONFLICT (id) DO NOTHING"""
_RECENT = """
    SELECT id, body FROM (
        SELECT id, body, at FROM session_changes
        WHERE at >= server_now() - %s AND node <> %s ORDER BY at DESC LIMIT %s
    ) AS newest
    ORDER BY at, id"""


class PostgresSessionChanges:
    """SessionChanges of the process `node_id`."""

    def __init__(self, database: Database, node_id: str) -> None:
        self._database = database
        self._node_id = node_id

    async def add(self, change_id: str, body: str) -> None:
        await self._database.execute(_ADD, (_KEEP, change_id, self._node_id, body))

    async def recent(self) -> tuple[tuple[str, str], ...]:
        rows = await self._database.rows(_RECENT, (_KEEP, self._node_id, _MOST))
        return tuple((change_id, body) for change_id, body in rows)
