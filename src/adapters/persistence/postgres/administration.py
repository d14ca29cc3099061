"""What an operator does with a database and asks about it, over connections of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ....domain.errors import StoreFailed
from .database import Connection, fetch_all, fetch_one
from .migrations import applied, migrate, newest, pending
from .opening import check_schema, first_connection, is_pooled

_SERVER = """
    SELECT current_setting('server_version'), current_setting('server_encoding'),
        current_setting('max_connections')::integer, (SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend'),
        extract(epoch FROM clock_timestamp())::float8, current_schema(),
        pg_database_size(current_database()), pg_is_in_recovery()"""
_TABLES = """
    SELECT c.relname::text, pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') ORDER BY 2 DESC, 1"""
_RUNS = "SELECT state, count(*) FROM runs WHERE state <> 'ended' GROUP BY state"
_PLACE = """
    SELECT pg_postmaster_start_time()::text, current_database()::text, current_schema()::text"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """`bytes`: with indexes; `rows`: the estimate of the server."""

    name: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """A database as it is. `clock_ahead`: seconds by which its clock is ahead of this machine's.
    `queued`, `running`, `waiting`: of Runs, those that wait for their turn or a free slot, are
    executed, and wait for a signal; None where there is no schema yet."""

    host: str
    database: str
    user: str
    server: str
    encoding: str
    replica: bool
    schema: str
    version: int
    known: int
    pending: tuple[str, ...]
    later: tuple[int, ...]
    """Migrations of a later version, which this one does not know."""
    bytes: int
    tables: tuple[TableSize, ...]
    connections: int
    max_connections: int
    clock_ahead: float
    pooled: bool
    """The address is that of a pooler in transaction mode."""
    queued: int | None = None
    running: int | None = None
    waiting: int | None = None


async def migrate_database(url: str) -> list[str]:
    """Run the pending migrations, and return their names. Raises StoreFailed."""
    async with first_connection(url) as connection:
        await check_schema(connection)
        return await migrate(connection)


async def database_status(url: str) -> DatabaseStatus:
    """Raises StoreFailed."""
    async with first_connection(url) as connection:
        return await _status(connection, pooled=await is_pooled(url, connection))


async def pools_transactions(url: str) -> bool:
    """Whether the address is that of a pooler in transaction mode, where LISTEN and prepared
    statements fail. Raises StoreFailed."""
    async with first_connection(url) as connection:
        return await is_pooled(url, connection)


async def are_one_database(url: str, other: str) -> bool:
    """Whether the two addresses lead to the same schema. Raises StoreFailed."""
    places = []
    for address in (url, other):
        async with first_connection(address) as connection:
            places.append(await fetch_one(connection, _PLACE))
    return places[0] == places[1]


async def _status(connection: Connection, *, pooled: bool) -> DatabaseStatus:
    began = time.time()
    row = await _one(connection, _SERVER)
    here = (began + time.time()) / 2
    server, encoding, most, connections, at, schema, size, replica = row
    numbers = await applied(connection)
    tables = tuple(TableSize(*table) for table in await fetch_all(connection, _TABLES))
    counts = {}
    if any(table.name == "runs" for table in tables):
        counts = {"queued": 0, "ready": 0, "held": 0, "waiting": 0}
        counts |= dict(await fetch_all(connection, _RUNS))
    known = newest()
    info = connection.info
    return DatabaseStatus(
        host=f"{info.host}:{info.port}",
        database=info.dbname,
        user=info.user,
        server=server,
        encoding=encoding,
        replica=replica,
        schema=schema or "",
        version=max(numbers, default=0),
        known=known,
        pending=tuple(f"{number:04} {name}" for number, name, _ in await pending(connection)),
        later=tuple(sorted(number for number in numbers if number > known)),
        bytes=size,
        tables=tables,
        connections=connections,
        max_connections=most,
        clock_ahead=at - here,
        pooled=pooled,
        queued=counts["queued"] + counts["ready"] if counts else None,
        running=counts.get("held"),
        waiting=counts.get("waiting"),
    )


async def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row = await fetch_one(connection, query)
    if row is None:
        raise StoreFailed("The database returned no row.")
    return row
