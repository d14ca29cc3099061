"""The schema as numbered SQL files, each of which runs once, in a transaction of its own.

Two versions of the Gateway may use one database at the same time, so a file only adds: tables,
columns with a default, functions under new names. What the version before still uses is removed by
a later version.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from psycopg import AsyncConnection

_LOCK = "SELECT pg_advisory_lock(hashtextextended('opensoul ' || current_schema(), 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('opensoul ' || current_schema(), 0))"
_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)"""
_APPLIED = "SELECT number FROM schema_migrations"
_APPLY = "INSERT INTO schema_migrations VALUES (%s, %s, now())"


async def migrate(connection: AsyncConnection[tuple[Any, ...]]) -> list[str]:
    """Run the files that this database has not seen yet, and return their names. Processes that
    start at the same time wait for one another. The connection is in autocommit mode."""
    if not await pending(connection):
        return []
    await connection.execute(_LOCK)
    try:
        await connection.execute(_TABLE)
        missing = await pending(connection)
        for number, name, script in missing:
            async with connection.transaction():
                await connection.execute(script.encode())
                await connection.execute(_APPLY, (number, name))
    finally:
        await connection.execute(_UNLOCK)
    return [name for _, name, _ in missing]


async def pending(connection: AsyncConnection[tuple[Any, ...]]) -> list[tuple[int, str, str]]:
    """Number, name and script of each file that was not run yet."""
    known = await (
        await connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
    ).fetchone()
    applied: set[int] = set()
    if known is not None and known[0]:
        rows = await (await connection.execute(_APPLIED)).fetchall()
        applied = {number for (number,) in rows}
    return [script for script in scripts() if script[0] not in applied]


def scripts() -> Iterator[tuple[int, str, str]]:
    """Number, name and content of each file, in order."""
    found = [entry for entry in files(__name__).iterdir() if entry.name.endswith(".sql")]
    for entry in sorted(found, key=lambda entry: entry.name):
        number, _, name = entry.name.removesuffix(".sql").partition("_")
        yield int(number), name, entry.read_text("utf-8")
