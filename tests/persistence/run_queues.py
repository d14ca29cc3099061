"""Run queues for tests: each kind there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from opensoul.adapters.persistence.common.live_logs import BOUNDS
from opensoul.adapters.persistence.queue import Lanes, LocalQueue
from opensoul.domain.ports import RunCounter, RunEvents, RunQueue, RunSignals
from opensoul.domain.runs.claims import Claim
from opensoul.domain.runs.events import Waiting
from opensoul.domain.runs.records import RunRecord
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import run

from .postgres_runs import Node, node, set_clock, stop_clock
from .run_logs import LOGS, HandClock, LocalRunEvents
from .workers import Hands

LEASE = 30.0
ASKS = Waiting("Approve?", "a1", 2_000.0)


class Queue(RunQueue, RunSignals, RunCounter, Protocol):
    """All of them, as one object."""


@dataclass
class Bench:
    """A queue whose leases end by a clock that stands still, and one worker."""

    log: RunEvents
    queue: Queue
    clock: HandClock
    hands: Hands
    limits: LaneSettings = field(default_factory=LaneSettings)

    @property
    def taken(self) -> list[tuple[str, int]]:
        return self.hands.taken

    @property
    def working(self) -> int:
        """Runs that have a slot."""
        raise NotImplementedError

    async def claimed(self, run_id: str = "run-1", session: str = "talk") -> Claim:
        await self.queue.enqueue(run(run_id, session_key=SessionKey("main", session)))
        return self.hands.claims[-1]

    async def record(self, run_id: str = "run-1") -> RunRecord:
        found = await self.log.find(run_id)
        assert found is not None
        return found

    async def move(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds

    async def look(self) -> None:
        """Look at the leases."""
        raise NotImplementedError

    async def expire(self) -> None:
        await self.move(LEASE + 1)
        await self.look()


class LocalBench(Bench):
    def __init__(self, log: LocalRunEvents, clock: HandClock) -> None:
        self.lanes = Lanes(lambda: self.limits)
        queue = LocalQueue(rows=log, lanes=self.lanes, clock=clock, steady=clock, lease=LEASE)
        self.local = queue
        super().__init__(log, queue, clock, Hands())
        queue.serve("me", self.hands)

    @property
    def working(self) -> int:
        return self.lanes.working + self.lanes.waiting

    async def look(self) -> None:
        self.local.take_over_expired()


class PostgresBench(Bench):
    def __init__(self, node: Node, clock: HandClock) -> None:
        super().__init__(node.events, node.queue, clock, node.hands)
        self.node = node

    @property
    def working(self) -> int:
        return self.node.queue.slots_used

    async def move(self, seconds: float) -> None:
        await super().move(seconds)
        await set_clock(self.node, self.clock.now)

    async def look(self) -> None:
        await self.node.queue.look()


BENCHES = (*LOGS, "postgres")


@asynccontextmanager
async def bench_of(
    kind: str, directory: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Bench]:
    clock = HandClock()
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
        made: list[Bench] = []
        async with node(
            url,
            "me",
            clock=clock,
            steady=clock,
            limits=lambda: made[0].limits if made else LaneSettings(),
        ) as one:
            made.append(PostgresBench(one, clock))
            await stop_clock(one)
            await made[0].move(0)
            yield made[0]
        return
    log = LOGS[kind](directory, clock, BOUNDS)
    await log.start()
    yield LocalBench(log, clock)
    await log.close()
