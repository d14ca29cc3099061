"""One Run's events in memory, and how they are told to who follows it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from ...domain.errors import EventsExpired, UnknownRun
from ...domain.model_calls import ReasoningDelta, TextDelta
from ...domain.run_records import RunRecord, RunStatus
from ...domain.runs import NumberedEvent, RunEvent

DELTAS = (TextDelta, ReasoningDelta)
EVENT_BYTES = 160
"""What an event takes besides its text, roughly: the objects around it."""

Waiters = set[asyncio.Future[None]]


def wake(waiters: Waiters) -> None:
    """Let all go on who wait."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


async def woken(waiters: Waiters) -> None:
    """Wait among them."""
    waiter = asyncio.get_running_loop().create_future()
    waiters.add(waiter)
    try:
        await waiter
    finally:
        waiters.discard(waiter)


@dataclass(slots=True, eq=False)
class Log:
    """One Run's events; the oldest fall out when there are too many."""

    begun: RunRecord
    """As it was when the Run was reserved or opened."""
    opened: bool = False
    """False: only reserved."""
    events: deque[NumberedEvent] = field(default_factory=deque)
    last: int = 0
    size: int = 0
    status: RunStatus = RunStatus.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    finished: bool = False
    waiters: Waiters = field(default_factory=set)

    @property
    def run_id(self) -> str:
        return self.begun.id

    @property
    def first(self) -> int:
        """The number of the oldest event that is here; of the next one where there is none."""
        return self.last - len(self.events) + 1

    @property
    def record(self) -> RunRecord:
        """The Run as it stands now."""
        return replace(
            self.begun,
            status=self.status,
            started_at=self.started_at,
            ended_at=self.ended_at,
            last_seq=self.last,
        )

    def get(self, seq: int) -> NumberedEvent:
        if seq < self.first:
            raise expired(self.run_id, seq, self.first)
        return self.events[seq - self.first]


async def follow(log: Log, seq: int) -> AsyncGenerator[NumberedEvent]:
    """The events behind `seq`, from memory, until the end. Raises EventsExpired; and UnknownRun
    where a reservation was taken back."""
    while True:
        while seq < log.last:
            seq += 1
            yield log.get(seq)
        if log.finished:
            return
        await woken(log.waiters)
        if not (log.opened or log.last):
            raise unknown(log.run_id)


def unknown(run_id: str) -> UnknownRun:
    return UnknownRun(f"There is no run {run_id!r}, or it ended too long ago.")


def expired(run_id: str, seq: int, oldest: int) -> EventsExpired:
    return EventsExpired(
        f"Event {seq} of run {run_id!r} is no longer kept; the oldest kept one is {oldest}."
    )


def size_of(event: RunEvent) -> int:
    """About how many bytes an event takes in memory."""
    if isinstance(event, DELTAS):
        return EVENT_BYTES + len(event.text)
    return EVENT_BYTES
