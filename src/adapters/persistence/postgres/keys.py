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
_NEWER = """
    SELECT known.version, api_keys.id, api_keys.record
    FROM (SELECT coalesce((SELECT version FROM api_key_version), 0) AS version) AS known
        LEFT JOIN api_keys ON true
    WHERE known.version <> %s ORDER BY api_keys.id"""
_SAVE = "SELECT save_api_key(%s, %s, %s)"
_NO_VERSION = -1
_USAGE = f"""
    SELECT {_COLUMNS} FROM key_usage WHERE day >= %s ORDER BY day, key_id"""  # noqa: S608 - no values
_USAGE_OF = f"""
    SELECT {_COLUMNS} FROM key_usage WHERE key_id = %s AND day >= %s ORDER BY day"""  # noqa: S608 - the same
_SUMS = ", ".join(f"{name} = book.{name} + excluded.{name}" for name in _NAMES[2:])
_ADD = f"""
    INSERT INTO key_usage AS book ({_COLUMNS}) VALUES ({", ".join("%s" for _ in _NAMES)})
    ON CONFLICT (day, key_id) DO UPDATE SET {_SUMS} RETURNING {_COLUMNS}"""  # noqa: S608 - the same


class PostgresKeys:
    """A KeyBook in a Database, which others open and close."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = _NO_VERSION
        """The version that this process has loaded or saved."""

    async def load(self) -> tuple[ApiKey, ...]:
        self._version = _NO_VERSION
        return await self.newer() or ()

    async def newer(self) -> tuple[ApiKey, ...] | None:
        rows = await self._database.rows(_NEWER, (self._version,))
        if not rows:
            return None
        keys = []
        for _, key_id, record in rows:
            if key_id is None:
                continue  # There are no keys.
            try:
                keys.append(decode_key(record))
            except Undecodable as error:
                name = key_id.decode("utf-8", "replace")
                message = f"The API key {name!r} in the database cannot be read: {error}."
                raise StoreFailed(message) from None
        self._version = rows[0][0]
        return tuple(keys)

    async def save(self, key: ApiKey) -> bool:
        values = (data(key.id), encode_key(key), self._version)
        row = await self._database.change_row(_SAVE, values)
        if row is None or row[0] is None:
            return False
        self._version = row[0]
        return True

    async def usage(self, since: str) -> tuple[KeyUsage, ...]:
        rows = await self._database.rows(_USAGE, (since,))
        return tuple(map(_usage, rows))

    async def usage_of(self, key_id: str, since: str) -> tuple[KeyUsage, ...]:
        rows = await self._database.rows(_USAGE_OF, (data(key_id), since))
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
