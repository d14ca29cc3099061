"""Direct calls of tools in PostgreSQL, by their idempotency keys."""

from __future__ import annotations

from typing import Any

from ....domain.ports import KeyedCall
from ..common import text
from .columns import data
from .database import Connection, Database, fetch_all, fetch_one

_PRUNE = """
    DELETE FROM direct_calls WHERE (principal_id, key) IN (
        SELECT principal_id, key FROM direct_calls WHERE until < server_now() - %s
        ORDER BY until LIMIT 100 FOR UPDATE SKIP LOCKED)"""
_BEGIN = """
    INSERT INTO direct_calls AS known (principal_id, key, fingerprint, until)
    VALUES (%s, %s, %s, server_now() + %s)
    ON CONFLICT (principal_id, key) DO UPDATE
        SET fingerprint = excluded.fingerprint, until = excluded.until, outcome = '', result = ''
        WHERE known.until + CASE known.outcome WHEN '' THEN %s ELSE 0 END < server_now()
    RETURNING true"""
_FIND = """
    SELECT fingerprint, outcome, result, until < server_now() FROM direct_calls
    WHERE principal_id = %s AND key = %s"""
_END = """
    UPDATE direct_calls SET outcome = %s, result = %s, until = server_now() + %s
    WHERE principal_id = %s AND key = %s"""
_FORGET = "DELETE FROM direct_calls WHERE principal_id = %s AND key = %s"


class PostgresCalls:
    """A CallBook in a Database, which others open and close. `keep_seconds`: how long the result of
    a call is kept."""

    def __init__(self, database: Database, *, keep_seconds: float = 300.0) -> None:
        self._database = database
        self._keep_seconds = keep_seconds

    async def begin(
        self, principal_id: str, key: str, fingerprint: str, seconds: float
    ) -> KeyedCall | None:
        named = data(principal_id), data(key)
        values = (*named, fingerprint, seconds, self._keep_seconds)

        async def begin(connection: Connection) -> KeyedCall | None:
            await connection.execute(_PRUNE, (self._keep_seconds,))
            if await fetch_all(connection, _BEGIN, values):
                return None
            return _call(await fetch_one(connection, _FIND, named))

        return await self._database.change(begin)

    async def find(self, principal_id: str, key: str) -> KeyedCall | None:
        return _call(await self._database.row(_FIND, (data(principal_id), data(key))))

    async def end(self, principal_id: str, key: str, outcome: str, result: str) -> None:
        named = data(principal_id), data(key)
        await self._database.execute(_END, (outcome, data(result), self._keep_seconds, *named))

    async def forget(self, principal_id: str, key: str) -> None:
        await self._database.execute(_FORGET, (data(principal_id), data(key)))


def _call(row: tuple[Any, ...] | None) -> KeyedCall | None:
    if row is None:
        return None
    fingerprint, outcome, result, is_over = row
    return KeyedCall(fingerprint, outcome, text(result), lost=is_over and not outcome)
