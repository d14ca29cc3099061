"""Runs and their events in memory: bounded for each Run and over all, forgotten after a while."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from ...domain.errors import EventsExpired, UnknownRun
from ...domain.model_calls import ReasoningDelta, TextDelta
from ...domain.ports import Clock
from ...domain.run_records import RunRecord, RunStatus, status_after
from ...domain.runs import TERMINAL, NumberedEvent, RunEvent, Started

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


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is held in memory at most.

    A Run keeps its newest `events_per_run` events and about `bytes_per_run` bytes of them. Once
    finished it is kept for `seconds`, unless newer ones push it out: at most `finished` Runs and
    about `finished_bytes` bytes of finished Runs are kept. Who follows a Run keeps it.
    """

    events_per_run: int = 20_000
    bytes_per_run: int = 8 * 1024 * 1024
    finished: int = 256
    finished_bytes: int = 64 * 1024 * 1024
    seconds: float = 60.0


BOUNDS = Bounds()


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


L = TypeVar("L", bound=Log)


class LiveRuns(Generic[L]):
    """The Runs that this process holds in memory, by their ids."""

    def __init__(self, make: Callable[[RunRecord], L], clock: Clock, bounds: Bounds) -> None:
        self._make = make
        self._clock = clock
        self._max_events = bounds.events_per_run
        self._max_bytes = bounds.bytes_per_run
        self._bounds = bounds
        self._logs: dict[str, L] = {}
        self._finished: deque[tuple[float, L]] = deque()
        self._finished_bytes = 0

    def __iter__(self) -> Iterator[L]:
        return iter(self._logs.values())

    def get(self, run_id: str) -> L | None:
        self._expire()
        return self._logs.get(run_id)

    def find(self, run_id: str) -> L:
        """Raises UnknownRun."""
        log = self.get(run_id)
        if log is None:
            raise unknown(run_id)
        return log

    def add(self, record: RunRecord) -> L:
        """A log that is not opened yet, of a Run that has none."""
        log = self._logs[record.id] = self._make(record)
        return log

    def open(self, record: RunRecord) -> L:
        """Raises ValueError when the Run has a log already."""
        log = self.get(record.id)
        if log is None:
            log = self.add(record)
        elif log.opened:
            raise ValueError(f"run {record.id!r} has a log already")
        log.begun, log.opened = record, True
        return log

    def remove(self, log: L) -> None:
        """Forget a log that was not opened. Who waits for it finds it gone."""
        del self._logs[log.run_id]
        wake(log.waiters)

    def append(self, run_id: str, event: RunEvent) -> L:
        """The log that the event was added to. Raises UnknownRun, and RuntimeError behind the end.

        Every token of every Run passes here.
        """
        log = self._logs.get(run_id)
        if log is None:
            raise unknown(run_id)
        if log.finished:
            raise RuntimeError(f"run {run_id!r} has ended: {event!r} cannot be added")
        log.last = last = log.last + 1
        log.events.append(NumberedEvent(last, event))
        log.size += size_of(event)
        if log.size > self._max_bytes or len(log.events) > self._max_events:
            self._drop_oldest(log)
        if not isinstance(event, _DELTAS):
            self._change(log, event)
        if log.waiters:
            wake(log.waiters)
        return log

    def _drop_oldest(self, log: L) -> None:
        while len(log.events) > self._max_events or (
            log.size > self._max_bytes and len(log.events) > 1
        ):
            log.size -= size_of(log.events.popleft().event)

    def _change(self, log: L, event: RunEvent) -> None:
        log.status = status_after(event) or log.status
        if isinstance(event, Started):
            log.started_at = self._clock()
        elif isinstance(event, TERMINAL):
            log.ended_at = now = self._clock()
            log.finished = True
            self._finished.append((now, log))
            self._finished_bytes += log.size
            self._expire()

    def _expire(self) -> None:
        """Forget finished Runs: the oldest are in front. Constant time for each Run, over all."""
        if not self._finished:
            return
        bounds = self._bounds
        oldest = self._clock() - bounds.seconds
        while self._finished and (
            self._finished[0][0] < oldest
            or len(self._finished) > bounds.finished
            or self._finished_bytes > bounds.finished_bytes
        ):
            _, log = self._finished.popleft()
            self._finished_bytes -= log.size
            del self._logs[log.run_id]


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


_DELTAS = (TextDelta, ReasoningDelta)


def size_of(event: RunEvent) -> int:
    """About how many bytes an event takes in memory."""
    if isinstance(event, _DELTAS):
        return EVENT_BYTES + len(event.text)
    return EVENT_BYTES
