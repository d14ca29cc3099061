"""Connections to the PostgreSQL database of a Gateway: one pool for all stores of a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from psycopg import AsyncConnection, Error, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ....domain.errors import LeaseLost, StoreFailed
from ....domain.ports import Clock
from ..common import FailureLog, Undecodable
from .availability import Availability, DatabaseAway
from .fence import active_fence
from .migrations import migrate
from .opening import (
    check_pooler,
    check_schema,
    check_settings,
    connection_string,
    first_connection,
    reason,
    settle,
)

T = TypeVar("T")

Connection = AsyncConnection[tuple[Any, ...]]
Values = Sequence[object] | Mapping[str, object]

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

LATER_ATTEMPT = "OS001"
TURN_STORED = "OS002"
"""The SQLSTATE codes that the functions of the schema raise."""
_LOST = {
    LATER_ATTEMPT: "A later attempt of the run has stored a step.",
    TURN_STORED: "The turn of the run is stored already.",
}
_CONNECTIONS = (4, 10)
CONNECTIONS_OF_NODE = _CONNECTIONS[1] + 1
"""What a process opens at most: the pool, and one connection that listens."""
_PATIENCE_WHILE_AWAY = 1.0
_RETRY_AFTER = 0.2
_START_PATIENCE = 30.0
"""Seconds for the first connections of the pool, after one could be made."""


class Database:
    """A pool of connections. Its methods raise StoreFailed, and LeaseLost where a function of the
    schema refuses a write.

    `url` is any address that libpq reads: `postgresql://...` or `host=... dbname=...`, Unix sockets
    included. `patience`: seconds that a call waits for a connection, or one second once the
    database cannot be reached. `behind_pooler`: the address
    is that of a pooler in transaction mode, such as PgBouncer, so statements are not prepared.
    `steady`: the clock of outages, which never jumps.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: tuple[int, int] = _CONNECTIONS,
        patience: float = 5.0,
        behind_pooler: bool = False,
        steady: Clock = time.monotonic,
    ) -> None:
        self.url = connection_string(url)
        self._connections = connections
        self._patience = patience
        self._prepare_after = None if behind_pooler else 1
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._users = 0
        self._opening = asyncio.Lock()
        self._in_use = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._failures = FailureLog("the database cannot be used")
        self._steady = steady
        self._availability = Availability(steady)

    def away_within(self, seconds: float) -> bool:
        """Whether the database cannot be reached, or could not in the last `seconds`, as far as
        calls have shown."""
        return self._availability.away_within(seconds)

    def outage_within(self, seconds: float) -> bool:
        """The same, but for connections that broke and were replaced at once."""
        return self._availability.outage_within(seconds)

    async def patiently(self, work: Callable[[], Awaitable[T]], seconds: float) -> T:
        """The result of `work`, which is tried again for so long while the database cannot be
        reached."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        while True:
            try:
                return await work()
            except DatabaseAway:
                if loop.time() > give_up_at:
                    raise
            await asyncio.sleep(_RETRY_AFTER)

    async def open(self) -> None:
        """Connect and migrate the schema. Each call is for one `close`; the stores of a process
        share the pool."""
        async with self._opening:
            if self._pool is None:
                self._pool = await self._opened()
            self._users += 1

    async def close(self) -> None:
        """Undo one `open`. The last one waits for calls in progress, and closes the connections."""
        async with self._opening:
            self._users = max(0, self._users - 1)
            if self._users or self._pool is None:
                return
            await self._idle.wait()
            pool, self._pool = self._pool, None
            await pool.close()

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, repeat: bool = False) -> T:
        """The result of `work` with a connection in autocommit mode. `repeat`: work that may be
        done twice is done again where the connection breaks."""
        return await self._call(work, lambda: repeat)

    async def change(
        self, work: Callable[[Connection], Awaitable[T]], *, repeat: bool = False
    ) -> T:
        """The same in a transaction, which is committed when this returns. Where the connection
        breaks before the commit, nothing was done, so the work is done again in any case. Raises
        LeaseLost where the Fence of the task does not hold."""
        committing = False

        async def in_transaction(connection: Connection) -> T:
            nonlocal committing
            async with connection.transaction():
                if (fence := active_fence()) is not None:
                    await fence.check(connection)
                result = await work(connection)
                committing = True
            return result

        return await self._call(in_transaction, lambda: repeat or not committing)

    async def change_row(self, query: str, values: Values = ()) -> tuple[Any, ...] | None:
        """The first row of a statement that is not to be done twice."""

        async def fetch(connection: Connection) -> tuple[Any, ...] | None:
            return await fetch_one(connection, query, values)

        return await self.change(fetch)

    async def write_row(self, query: str, values: Values = ()) -> tuple[Any, ...] | None:
        """The first row of a statement that writes and may be done twice: in one trip, unless the
        task has a Fence."""
        if active_fence() is None:
            return await self.row(query, values)
        return await self.change_row(query, values)

    async def snapshot(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of `work`, which only reads: all its statements see the same state."""

        async def in_snapshot(connection: Connection) -> T:
            async with connection.transaction():
                await connection.execute(_SNAPSHOT)
                return await work(connection)

        return await self.run(in_snapshot, repeat=True)

    async def rows(
        self, query: str, values: Values = (), *, repeat: bool = True
    ) -> list[tuple[Any, ...]]:
        """The rows of one statement, in one trip. `repeat`: as in `run`."""

        async def fetch(connection: Connection) -> list[tuple[Any, ...]]:
            return await fetch_all(connection, query, values)

        return await self.run(fetch, repeat=repeat)

    async def row(
        self, query: str, values: Values = (), *, repeat: bool = True
    ) -> tuple[Any, ...] | None:
        """The first row of one statement, if any."""
        rows = await self.rows(query, values, repeat=repeat)
        return rows[0] if rows else None

    async def execute(self, query: str, values: Values = (), *, repeat: bool = True) -> int:
        """How many rows one statement without a result has changed, in one trip."""

        async def execute(connection: Connection) -> int:
            return (await connection.execute(query, values)).rowcount

        return await self.run(execute, repeat=repeat)

    def pool_stats(self) -> dict[str, int]:
        """The counters of the pool of connections, by the driver's names."""
        return {} if self._pool is None else dict(self._pool.get_stats())

    async def _call(
        self, work: Callable[[Connection], Awaitable[T]], may_repeat: Callable[[], bool]
    ) -> T:
        if self._pool is None:
            raise StoreFailed("The database is not open.")
        self._in_use += 1
        self._idle.clear()
        begun_at = self._steady()
        until = time.monotonic() + self._patience
        try:
            return await self._attempt(self._pool, work, may_repeat, until)
        except (Error, OSError) as error:
            raise self._failed(error, begun_at) from error
        except Undecodable as error:
            raise StoreFailed(f"The database has a row that cannot be read: {error}.") from error
        finally:
            self._in_use -= 1
            if not self._in_use:
                self._idle.set()

    async def _opened(self) -> AsyncConnectionPool[Connection]:
        smallest, largest = self._connections
        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self.url,
            min_size=smallest,
            max_size=largest,
            timeout=self._patience,
            # Then the next call tries anew: the pauses between the pool's own attempts grow.
            reconnect_timeout=self._patience,
            kwargs={"autocommit": True, "prepare_threshold": self._prepare_after},
            configure=None if self._prepare_after is None else settle,
            open=False,
        )
        try:
            # By itself: a pool would retry, and say only that no connection came in time.
            async with first_connection(self.url) as connection:
                if self._prepare_after is None:
                    await check_settings(connection)
                else:
                    await check_pooler(self.url, connection)
                await check_schema(connection)
                await migrate(connection)
            await pool.open(wait=True, timeout=_START_PATIENCE)
        except StoreFailed:
            await pool.close()
            raise
        except (Error, OSError) as error:
            await pool.close()
            problem = f"The database cannot be opened: {reason(error, self.url)}"
            raise StoreFailed(problem) from error
        return pool

    async def _attempt(
        self,
        pool: AsyncConnectionPool[Connection],
        work: Callable[[Connection], Awaitable[T]],
        may_repeat: Callable[[], bool],
        until: float,
    ) -> T:
        # After the server was restarted, every connection of the pool may be broken.
        while True:
            # The pool itself goes on to connect anew, whether anybody waits or not.
            is_away = self._availability.away_within(0)
            patience = min(_PATIENCE_WHILE_AWAY, self._patience) if is_away else self._patience
            async with pool.connection(timeout=patience) as connection:
                try:
                    result = await work(connection)
                except OperationalError as error:
                    if connection.broken:
                        self._availability.failed(error, self._steady())
                    if not (connection.broken and may_repeat() and time.monotonic() < until):
                        raise
                else:
                    self._failures.succeeded()
                    self._availability.succeeded()
                    return result

    def _failed(self, error: Exception, begun_at: float) -> StoreFailed | LeaseLost:
        if isinstance(error, Error) and error.sqlstate in _LOST:
            return LeaseLost(_LOST[error.sqlstate])
        self._failures.failed(error)
        if isinstance(error, PoolTimeout):
            problem = "The database does not answer: no connection was to be had in time."
        else:
            problem = f"The database cannot be used: {reason(error, self.url)}"
        if self._availability.failed(error, begun_at):
            return DatabaseAway(problem)
        return StoreFailed(problem, retry_after=5.0 if isinstance(error, PoolTimeout) else None)


async def fetch_all(
    connection: Connection, query: str, values: Values = ()
) -> list[tuple[Any, ...]]:
    """All rows, in the binary format: bytea is twice as long in the text format."""
    cursor = await connection.execute(query, values, binary=True)
    return await cursor.fetchall()


async def fetch_one(
    connection: Connection, query: str, values: Values = ()
) -> tuple[Any, ...] | None:
    rows = await fetch_all(connection, query, values)
    return rows[0] if rows else None
