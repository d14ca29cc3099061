"""When an idle connection is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest_asyncio
from hypercorn.asyncio.worker_context import EventWrapper

from opensoul.app.server.hypercorn.idle_watch import IdleWatch

SOON, NEVER = 0.001, 3_600.0
PATIENCE = 30.0


class Connection:
    """What the watch needs of one, with itself as the task group."""

    def __init__(self) -> None:
        self.terminated = EventWrapper()
        self.closed = asyncio.Event()
        self.closings = 0
        self.received = False
        self.tasks: list[asyncio.Task[None]] = []
        self.spawned = asyncio.Event()

    def watch(self, *, first: float = NEVER, later: float = NEVER) -> IdleWatch:
        return IdleWatch(
            first=first,
            later=later,
            terminated=self.terminated,
            close=self.close,
            has_received=lambda: self.received,
        )

    async def close(self) -> None:
        self.closings += 1
        self.closed.set()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        self.tasks.append(asyncio.ensure_future(work()))
        self.spawned.set()

    async def is_closed(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.closed.wait()


@pytest_asyncio.fixture
async def connection() -> AsyncIterator[Connection]:
    connection = Connection()
    yield connection
    await asyncio.gather(*connection.tasks)


async def idle(connection: Connection, watch: IdleWatch) -> None:
    await watch.restart(connection, None)  # type: ignore[arg-type]


async def test_a_connection_without_a_first_request_is_closed(connection: Connection) -> None:
    watch = connection.watch(first=SOON)
    await idle(connection, watch)
    await connection.is_closed()
    watch.end()


async def test_a_connection_without_another_request_is_closed(connection: Connection) -> None:
    watch = connection.watch(later=SOON)
    await idle(connection, watch)
    await watch.stop()
    await idle(connection, watch)
    await connection.is_closed()
    watch.end()


async def test_an_idle_connection_is_closed_when_the_server_ends(connection: Connection) -> None:
    watch = connection.watch()
    await idle(connection, watch)
    await connection.terminated.set()
    await connection.is_closed()
    watch.end()


async def test_a_request_in_progress_is_answered_before_the_server_ends(
    connection: Connection,
) -> None:
    watch = connection.watch()
    await idle(connection, watch)
    await watch.stop()
    await connection.terminated.set()
    await asyncio.sleep(0)
    assert connection.closings == 0
    await idle(connection, watch)
    await connection.is_closed()
    watch.end()
    assert connection.closings == 1


async def test_a_connection_that_has_ended_is_not_closed_again(connection: Connection) -> None:
    watch = connection.watch()
    await idle(connection, watch)
    watch.end()
    await idle(connection, watch)
    await connection.terminated.set()
    await asyncio.sleep(0)
    assert connection.closings == 0


async def test_a_request_that_came_as_the_connection_was_to_be_closed_is_served(
    connection: Connection,
) -> None:
    watch = connection.watch()
    await idle(connection, watch)
    await connection.terminated.set()
    await asyncio.sleep(0)  # Its end is decided, and is the next step of the loop.
    await watch.stop()
    await asyncio.gather(*connection.tasks)
    assert connection.closings == 0
    watch.end()


async def test_a_connection_with_the_beginning_of_a_request_is_given_time_once(
    connection: Connection,
) -> None:
    watch = connection.watch(first=0.05, later=SOON)
    connection.received = True
    await idle(connection, watch)
    await watch.stop()
    await idle(connection, watch)
    await connection.spawned.wait()
    await connection.tasks[0]
    assert connection.closings == 0
    await connection.is_closed()
    assert len(connection.tasks) == 2
    watch.end()


async def test_the_rest_of_a_request_ends_the_time_that_was_given(connection: Connection) -> None:
    watch = connection.watch()
    connection.received = True
    await idle(connection, watch)
    await connection.terminated.set()
    await asyncio.sleep(0)
    await asyncio.gather(*connection.tasks)
    await watch.stop()
    assert connection.closings == 0
    connection.received = False
    await idle(connection, watch)
    await connection.is_closed()
    watch.end()
