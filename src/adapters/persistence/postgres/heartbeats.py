"""What the heartbeats of all processes share, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from ..common import text as decoded
from .columns import data
from .database import Connection, Database, fetch_all

_NOTE = "SELECT heartbeat_note(%s, %s)"
_TAKE = """
    WITH taken AS (DELETE FROM heartbeat_texts RETURNING position, text)
    SELECT text FROM taken ORDER BY position"""
_PUT_BACK = "SELECT heartbeat_put_back(%s)"
_STATE = "SELECT is_on, last FROM heartbeats"
_TURN = """
    INSERT INTO heartbeats (is_on) VALUES (%s)
    ON CONFLICT (only_row) DO UPDATE SET is_on = excluded.is_on"""
_SET_LAST = """
    INSERT INTO heartbeats (last) VALUES (%s)
    ON CONFLICT (only_row) DO UPDATE SET last = excluded.last"""


class PostgresHeartbeats:
    """A HeartbeatBook in a Database, which others open and close."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, text: str, limit: int) -> bool:
        row = await self._database.change_row(_NOTE, (data(text), limit))
        return row is not None and bool(row[0])

    async def take(self) -> tuple[str, ...]:
        async def take(connection: Connection) -> tuple[str, ...]:
            rows = await fetch_all(connection, _TAKE)
            return tuple(decoded(text) for (text,) in rows)

        return await self._database.change(take)

    async def put_back(self, texts: Sequence[str]) -> None:
        if texts:
            await self._database.change_row(_PUT_BACK, ([data(text) for text in texts],))

    async def is_on(self) -> bool:
        row = await self._database.row(_STATE)
        return row is None or bool(row[0])

    async def turn(self, on: bool) -> None:
        await self._database.execute(_TURN, (on,))

    async def last(self) -> str | None:
        row = await self._database.row(_STATE)
        return None if row is None or row[1] is None else decoded(row[1])

    async def set_last(self, payload: str) -> None:
        await self._database.execute(_SET_LAST, (data(payload),))
