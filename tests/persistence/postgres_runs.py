"""Processes of a Gateway over one PostgreSQL database, as objects of one test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from opensoul.adapters.persistence.common.live_logs import BOUNDS, Bounds
from opensoul.adapters.persistence.postgres import Database
from opensoul.adapters.persistence.postgres.runs import PostgresQueue, PostgresRunEvents
from opensoul.domain.ports import Clock
from opensoul.domain.runs.claims import Claim
from opensoul.domain.runs.events import EventBatch, NumberedEvent
from opensoul.domain.runs.spec import RunSpec
from opensoul.domain.settings import LaneSettings

from .pooler import server_of
from .postgres_stores import few_connections
from .workers import Hands

LEASE = 30.0
NEVER = 86_400.0
_STOP_CLOCK = """
    CREATE TABLE test_clock (now double precision NOT NULL, started double precision NOT NULL);
    INSERT INTO test_clock VALUES (0, 0);
    CREATE OR REPLACE FUNCTION server_now() RETURNS double precision LANGUAGE sql VOLATILE
        AS 'SELECT now FROM test_clock';
    CREATE OR REPLACE FUNCTION server_started() RETURNS double precision LANGUAGE sql STABLE
        AS 'SELECT started FROM test_clock'"""


@dataclass
class Node:
    """What a process has, apart from its executor."""

    name: str
    database: Database
    events: PostgresRunEvents
    queue: PostgresQueue
    hands: Hands

    async def claimed(self, spec: RunSpec) -> Claim:
        """The claim of a Run that is accepted and leased here."""
        await self.queue.enqueue(spec)
        return self.hands.claims[-1]


@asynccontextmanager
async def node(
    url: str,
    name: str = "a",
    *,
    clock: Clock = time.time,
    steady: Clock = time.monotonic,
    limits: Callable[[], LaneSettings] = LaneSettings,
    lease: float = LEASE,
    bounds: Bounds = BOUNDS,
    look_every: float = NEVER,
    works: bool = True,
    patience: float = 5.0,
    **options: Any,
) -> AsyncIterator[Node]:
    """`look_every`: by default only bells say what is new. `patience`: as in Database."""
    database = few_connections(url, patience, steady)
    events = PostgresRunEvents(
        database,
        clock=clock,
        steady=steady,
        bounds=bounds,
        look_every=look_every,
        listen_url=server_of(url),
        **options,
    )
    queue = PostgresQueue(events, limits=limits, lease=lease, works=works)
    made = Node(name, database, events, queue, Hands())
    queue.serve(name, made.hands)
    await events.start()
    await queue.look()  # The first one, so that none is under way when a test begins.
    try:
        yield made
    finally:
        await queue.close()
        await events.close()


async def stop_clock(node: Node) -> None:
    """From now on the clock of the database stands still until it is set."""
    await node.database.run(lambda connection: connection.execute(_STOP_CLOCK))


async def set_clock(node: Node, now: float, *, started: float = 0.0) -> None:
    await node.database.execute("UPDATE test_clock SET now = %s, started = %s", (now, started))


async def all_of(
    events: AsyncIterator[EventBatch], *, seconds: float = 20.0
) -> list[NumberedEvent]:
    """`seconds`: after that it hangs."""
    async with asyncio.timeout(seconds):
        return [numbered async for batch in events for numbered in batch]
