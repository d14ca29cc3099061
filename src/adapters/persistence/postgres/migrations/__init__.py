"""The schema as numbered SQL files, each of which runs once, in a transaction of its own.

Two versions of the Gateway may use one database at the same time, so a file only adds: tables,
columns with a default, functions under new names. What the version before still uses is removed by
a later version, in a file that also puts the number of the oldest migration that a version must
know into `schema_floor`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from psycopg import AsyncConnection

from .....domain.errors import StoreFailed

Script = tuple[int, str, str]
"""Number, name and content of a file."""

# Until the end of the transaction: behind a pooler the next one may have another connection.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('opensoul ' || current_schema(), 0))"
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
    start at the same time wait for one another. The connection is in autocommit mode."""
    done = []
    for number, name, script in await pending(connection):
        async with connection.transaction():
            await connection.execute(_LOCK)
            await connection.execute(_TABLE)
            if number in await applied(connection):
                continue  # By another process, meanwhile.
            await connection.execute(script.encode())
            await connection.execute(_APPLY, (number, name))
        done.append(f"{number:04} {name}")
    return done


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
