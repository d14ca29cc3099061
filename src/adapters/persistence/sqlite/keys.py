"""API keys and their usage in a SQLite database of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from threading import Lock
from typing import TypeVar

from ....domain.api_keys import ApiKey, KeyUsage
from ....domain.errors import StoreFailed
from ..common import Undecodable, decode_key, encode_key
from .schema import Kind, close_database, open_database

KEYS_FILE = "keys.sqlite3"
"""Its name in the state directory."""
_APPLICATION_ID = 0x4F53_4B59
"""`OSKY`."""

# `record` is an ApiKey as JSON: with the digest of the key, not with the key. A row of `key_usage`
# is what a key has used on a day of UTC.
KEYS = Kind(
    "key store",
    _APPLICATION_ID,
    migrations=(
        (
            f"PRAGMA application_id = {_APPLICATION_ID}",
            "CREATE TABLE keys (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID",
            """CREATE TABLE key_usage (
                key_id TEXT NOT NULL,
                day TEXT NOT NULL,
                requests INTEGER NOT NULL,
                runs INTEGER NOT NULL,
                input INTEGER NOT NULL,
                output INTEGER NOT NULL,
                cached INTEGER NOT NULL,
                cost REAL NOT NULL,
                unpriced INTEGER NOT NULL,
                PRIMARY KEY (day, key_id)) WITHOUT ROWID""",
        ),
    ),
    advice="Restore a backup, or move it away: then every key has to be created again.",
)
_COLUMNS = ", ".join(one.name for one in fields(KeyUsage))
_PLACES = ", ".join("?" for _ in fields(KeyUsage))
_SUMS = ", ".join(f"{one.name} = {one.name} + excluded.{one.name}" for one in fields(KeyUsage)[2:])
_ADD = f"""
    INSERT INTO key_usage ({_COLUMNS}) VALUES ({_PLACES})
    ON CONFLICT (day, key_id) DO UPDATE SET {_SUMS} RETURNING {_COLUMNS}"""  # noqa: S608 - no values

T = TypeVar("T")


class SqliteKeys:
    """A KeyBook in a file of mode 0600, which is created when a key is first saved or used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._using = Lock()

    async def load(self) -> tuple[ApiKey, ...]:
        return await self._read(self._keys)

    async def newer(self) -> tuple[ApiKey, ...] | None:
        return None  # The file belongs to the process that has locked the state directory.

    async def save(self, key: ApiKey) -> bool:
        row = key.id, encode_key(key)
        await self._write(
            lambda connection: connection.execute("REPLACE INTO keys VALUES (?, ?)", row)
        )
        return True

    async def usage(self, since: str) -> tuple[KeyUsage, ...]:
        query = f"SELECT {_COLUMNS} FROM key_usage WHERE day >= ? ORDER BY day, key_id"  # noqa: S608
        return await self._read(
            lambda connection: tuple(KeyUsage(*row) for row in connection.execute(query, (since,)))
        )

    async def usage_of(self, key_id: str, since: str) -> tuple[KeyUsage, ...]:
        return tuple(row for row in await self.usage(since) if row.key_id == key_id)

    async def add_usage(self, rows: Sequence[KeyUsage]) -> tuple[KeyUsage, ...]:
        values = [astuple(row) for row in rows]

        def add(connection: sqlite3.Connection) -> tuple[KeyUsage, ...]:
            return tuple(
                KeyUsage(*row) for one in values for row in connection.execute(_ADD, one).fetchall()
            )

        return await self._write(add)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _keys(self, connection: sqlite3.Connection) -> tuple[ApiKey, ...]:
        found = []
        for key_id, record in connection.execute("SELECT id, record FROM keys"):
            try:
                found.append(decode_key(record))
            except Undecodable as error:
                raise StoreFailed(
                    f"The API key {key_id!r} in {self._path} cannot be read: {error}."
                ) from None
        return tuple(found)

    async def _read(self, work: Callable[[sqlite3.Connection], tuple[T, ...]]) -> tuple[T, ...]:
        """The result of `work`; nothing where there is no database yet."""

        def read() -> tuple[T, ...]:
            if self._connection is None and not self._path.exists():
                return ()
            return work(self._opened())

        return await self._use(read)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def write() -> T:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # Commits, or rolls back when a statement fails.
                return work(connection)

        return await self._use(write)

    async def _use(self, work: Callable[[], T]) -> T:
        def alone() -> T:
            with self._using:
                try:
                    return work()
                except sqlite3.Error as error:
                    raise StoreFailed(f"The key store {self._path} failed: {error}.") from error

        return await asyncio.to_thread(alone)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_database(self._path, kind=KEYS)
        return self._connection

    def _close(self) -> None:
        with self._using:
            connection, self._connection = self._connection, None
            if connection is not None:
                close_database(connection)
