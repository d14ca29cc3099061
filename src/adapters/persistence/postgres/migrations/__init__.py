"""The schema as numbered SQL files, each of which runs once, in a transaction of its own.

Two versions of the Gateway may use one database at the same time, so a file only adds: tables,
columns with a default, functions under new names. What the version before still uses is removed by
a later version, in a file that also puts the number of the oldest migration that a version must
know into `schema_floor`.

The version before serves meanwhile. A file waits a moment only for what transactions of others have
locked, because all others wait behind it, and is tried again then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, LockNotAvailable

from .....domain.errors import StoreFailed

Script = tuple[int, str, str]
"""Number, name and content of a file."""

# Others than the default of PostgreSQL show a transaction that has waited for the lock the state
# before it.
_SEE_WHAT_IS_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
# Until the end of the transaction: behind a pooler the next one may have another connection.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('opensoul ' || current_schema(), 0))"
# Shorter than deadlock_timeout, 1 s by default: of two transactions that wait for one another, the
# migration gives up, and none of a node.
_HURRY = "SET LOCAL lock_timeout = '500ms'"
_PAUSE = 0.5
_MOST_WAIT = 60.0
"""Seconds for which a file is tried again."""
_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)"""
_EXISTS = "SELECT to_regclass(quote_ident(current_schema()) || '.' || %s::text) IS NOT NULL"
_PLACE = """
    SELECT n.nspname, current_schema()
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'number' AND NOT a.attisdropped
    WHERE c.oid = to_regclass('schema_migrations')"""
_IS_OURS = """
    SELECT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass(quote_ident(current_schema()) || '.schema_migrations')
            AND attname = 'number' AND NOT attisdropped)"""
_APPLIED = "SELECT number FROM schema_migrations"
_APPLY = "INSERT INTO schema_migrations VALUES (%s, %s, now())"
_FLOOR = "SELECT coalesce(max(number), 0) FROM schema_floor"


async def migrate(connection: AsyncConnection[tuple[Any, ...]]) -> list[str]:
    """Run the files that this database has not seen yet, and return their names. Processes that
    start at the same time wait for one another. The connection is in autocommit mode.

    Raises StoreFailed where a file did not get its locks for a minute."""
    scripts = await pending(connection)
    return [f"{one[0]:04} {one[1]}" for one in scripts if await _apply_patiently(connection, one)]


async def _apply_patiently(connection: AsyncConnection[tuple[Any, ...]], script: Script) -> bool:
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _MOST_WAIT
    while True:
        try:
            return await _apply(connection, script)
        except (LockNotAvailable, DeadlockDetected) as error:
            if loop.time() > give_up_at:
                raise StoreFailed(
                    f"Migration {script[0]:04} {script[1]} needs a lock that transactions of others"
                    f" have held for {_MOST_WAIT:g} s; nothing of it was done. End them (the view"
                    " pg_stat_activity has them, with xact_start), and try again."
                ) from error
        # Time for those that waited behind it; not at once with another process that tries.
        await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


async def _apply(connection: AsyncConnection[tuple[Any, ...]], script: Script) -> bool:
    """Whether it was run, and not by another process."""
    number, name, content = script
    async with connection.transaction():
        await connection.execute(_SEE_WHAT_IS_COMMITTED)
        await connection.execute(_LOCK)
        await connection.execute(_TABLE)
        if number in await applied(connection):
            return False
        await connection.execute(_HURRY)
        await connection.execute(content.encode())
        await connection.execute(_APPLY, (number, name))
    return True


async def pending(connection: AsyncConnection[tuple[Any, ...]]) -> list[Script]:
    """The files that were not run yet."""
    known = await applied(connection)
    return [script for script in scripts() if script[0] not in known]


async def applied(connection: AsyncConnection[tuple[Any, ...]]) -> set[int]:
    """The numbers of the files that were run, also those of a later version. Raises StoreFailed
    where the tables would not be, or are not, those of this Gateway."""
    place = await (await connection.execute(_PLACE)).fetchone()
    if place is not None and place[0] != place[1]:
        raise StoreFailed(
            f"The tables of a Gateway are in the schema {place[0]}, but new tables would be in"
            f" {place[1]}, the first schema of the search_path. Set search_path to the one of both"
            " that this Gateway is to use, such as ?options=-csearch_path%3Dname in the address."
        )
    if not await _exists(connection, "schema_migrations"):
        return set()
    ours = await (await connection.execute(_IS_OURS)).fetchone()
    if ours is None or not ours[0]:
        raise StoreFailed(
            "The schema has a table schema_migrations that is not OpenSoul's. Use a database, or a"
            " schema, of its own: CREATE SCHEMA opensoul, and ?options=-csearch_path%3Dopensoul in"
            " the address."
        )
    rows = await (await connection.execute(_APPLIED)).fetchall()
    return {number for (number,) in rows}


async def floor(connection: AsyncConnection[tuple[Any, ...]]) -> int:
    """The number that a version must know at least."""
    if not await _exists(connection, "schema_floor"):
        return 0
    row = await (await connection.execute(_FLOOR)).fetchone()
    return 0 if row is None else int(row[0])


def newest() -> int:
    """The number of the newest file of this version."""
    return max(number for number, _, _ in scripts())


def scripts() -> Iterator[Script]:
    """The files, in order."""
    found = [entry for entry in files(__name__).iterdir() if entry.name.endswith(".sql")]
    for entry in sorted(found, key=lambda entry: entry.name):
        number, _, name = entry.name.removesuffix(".sql").partition("_")
        yield int(number), name, entry.read_text("utf-8")


async def _exists(connection: AsyncConnection[tuple[Any, ...]], table: str) -> bool:
    row = await (await connection.execute(_EXISTS, (table,))).fetchone()
    return row is not None and bool(row[0])
