"""The configuration of all processes of a Gateway in PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .database import Database

T = TypeVar("T")

_HASH = "SELECT sha256 FROM configurations ORDER BY number DESC LIMIT 1"
_NEWEST = "SELECT document FROM configurations ORDER BY number DESC LIMIT 1"
_REPLACE = "SELECT configuration_replace(%s, %s, %s, %s)"
_KEEP = 20
"""Former configurations that are kept."""


class PostgresConfigurations:
    """A ConfigurationBook in a Database, which others open and close."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest_hash(self) -> str | None:
        row = await self._database.row(_HASH)
        return None if row is None else str(row[0])

    async def newest(self) -> bytes | None:
        row = await self._database.row(_NEWEST)
        return None if row is None else bytes(row[0])

    async def replace(self, base_hash: str | None, data: bytes) -> bool:
        values = (base_hash, data, hashlib.sha256(data).hexdigest(), _KEEP)
        row = await self._database.change_row(_REPLACE, values)
        return row is not None and bool(row[0])


async def with_configurations(
    url: str, work: Callable[[PostgresConfigurations], Awaitable[T]]
) -> T:
    """The result of `work`, with a connection of its own. Raises StoreFailed."""
    database = Database(url, connections=(1, 1))
    await database.open()
    try:
        return await work(PostgresConfigurations(database))
    finally:
        await database.close()
