"""API keys and their usage in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ....domain.api_keys import ApiKey, KeyUsage
from ....domain.errors import StoreFailed
from ..common import Undecodable, decode_key, encode_key, text
from .columns import data
from .database import Connection, Database, fetch_all

_NAMES = [one.name for one in fields(KeyUsage)]
_COLUMNS = ", ".join(_NAMES)
_LOAD = "SELECT id, record FROM api_keys ORDER BY id"
_SAVE = """
    INSERT INTO api_keys VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET record = excluded.record"""
_USAGE = f"""
    SELECT {_COLUMNS} FROM key_usage WHERE day >= %s ORDER BY day, key_id"""  # noqa: S608 - no values
_SUMS = ", ".join(f"{name} = book.{name} + excluded.{name}" for name in _NAMES[2:])
_ADD = f"""
    INSERT INTO key_usage AS book ({_COLUMNS}) VALUES ({", ".join("%s" for _ in _NAMES)})
    ON CONFLICT (day, key_id) DO UPDATE SET {_SUMS} RETURNING {_COLUMNS}"""  # noqa: S608 - the same


class PostgresKeys:
    """A KeyBook in a Database, which others open and close."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[ApiKey, ...]:
        keys = []
        for key_id, record in await self._database.rows(_LOAD):
            try:
                keys.append(decode_key(record))
            except Undecodable as error:
                name = key_id.decode("utf-8", "replace")
                message = f"The API key {name!r} in the database cannot be read: {error}."
                raise StoreFailed(message) from None
        return tuple(keys)

    async def save(self, key: ApiKey) -> None:
        await self._database.execute(_SAVE, (data(key.id), encode_key(key)))

    async def usage(self, since: str) -> tuple[KeyUsage, ...]:
        rows = await self._database.rows(_USAGE, (since,))
        return tuple(map(_usage, rows))

    async def add_usage(self, rows: Sequence[KeyUsage]) -> tuple[KeyUsage, ...]:
        # In one order, so that two processes do not wait for each other.
        values = [_row(row) for row in sorted(rows, key=lambda row: (row.day, row.key_id))]

        async def add(connection: Connection) -> tuple[KeyUsage, ...]:
            added = [await fetch_all(connection, _ADD, row) for row in values]
            return tuple(_usage(row) for (row,) in added)

        return await self._database.change(add)

    async def close(self) -> None:
        """The database is closed by those who opened it."""


def _row(usage: KeyUsage) -> tuple[object, ...]:
    key_id, *others = (getattr(usage, name) for name in _NAMES)
    return data(key_id), *others


def _usage(row: tuple[Any, ...]) -> KeyUsage:
    key_id, *others = row
    return KeyUsage(text(key_id), *others)
