"""The events of Runs in memory: bounded for each Run and over all, forgotten after a while."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from ...domain.errors import EventsExpired, UnknownRun
from ...domain.model_calls import ReasoningDelta, TextDelta
from ...domain.ports import Clock
from ...domain.runs import TERMINAL, NumberedEvent, RunEvent

EVENT_BYTES = 160
"""What an event takes besides its text, roughly: the objects around it."""


@dataclass(slots=True, eq=False)
class _Log:
    """One Run's events; the oldest fall out when there are too many."""

    run_id: str
    events: deque[NumberedEvent] = field(default_factory=deque)
    last: int = 0
    size: int = 0
    finished: bool = False
    waiters: set[asyncio.Future[None]] = field(default_factory=set)

    def get(self, seq: int) -> NumberedEvent:
        index = seq - 1 - (self.last - len(self.events))
        if index < 0:
            raise EventsExpired(
                f"Event {seq} of run {self.run_id!r} is no longer kept; the oldest kept one is"
                f" {self.events[0].seq}."
            )
        return self.events[index]

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()

    async def grown(self) -> None:
        """Return once an event has been added."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            await waiter
        finally:
            self.waiters.discard(waiter)


class MemoryRunLog:
    """A RunLog for one process and one event loop.

    A Run keeps its newest `max_events_per_run` events and about `max_bytes` bytes of them. Once
    finished it is kept for `keep_seconds`, unless newer ones push it out: at most `keep_finished`
    Runs and about `keep_bytes` bytes of finished Runs are kept. Who follows a Run keeps it.

    Every Run that is opened must get its terminal event, or it is never forgotten.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        max_events_per_run: int = 20_000,
        max_bytes: int = 8 * 1024 * 1024,
        keep_finished: int = 256,
        keep_bytes: int = 64 * 1024 * 1024,
        keep_seconds: float = 60.0,
    ) -> None:
        self._clock = clock
        self._max_events = max_events_per_run
        self._max_bytes = max_bytes
        self._keep_finished = keep_finished
        self._keep_bytes = keep_bytes
        self._keep_seconds = keep_seconds
        self._logs: dict[str, _Log] = {}
        self._finished: deque[tuple[float, _Log]] = deque()
        self._finished_bytes = 0

    def open(self, run_id: str) -> None:
        """Raises ValueError when the Run has a log already."""
        self._expire()
        if run_id in self._logs:
            raise ValueError(f"run {run_id!r} has a log already")
        self._logs[run_id] = _Log(run_id)

    def append(self, run_id: str, event: RunEvent) -> int:
        """Raises UnknownRun for one that was never opened, or is forgotten."""
        log = self._find(run_id)
        if log.finished:
            raise RuntimeError(f"run {run_id!r} has ended: {event!r} cannot be added")
        log.last += 1
        log.events.append(NumberedEvent(log.last, event))
        log.size += _size(event)
        while len(log.events) > self._max_events or (
            log.size > self._max_bytes and len(log.events) > 1
        ):
            log.size -= _size(log.events.popleft().event)
        if isinstance(event, TERMINAL):
            self._finish(log)
        if log.waiters:
            log.wake()
        return log.last

    def follow(self, run_id: str, after: int = 0) -> AsyncGenerator[NumberedEvent]:
        """Raises UnknownRun at once, EventsExpired at the event that is gone."""
        self._expire()
        return _follow(self._find(run_id), max(after, 0))

    def _find(self, run_id: str) -> _Log:
        log = self._logs.get(run_id)
        if log is None:
            raise UnknownRun(f"There is no run {run_id!r}, or it ended too long ago.")
        return log

    def _finish(self, log: _Log) -> None:
        log.finished = True
        self._finished.append((self._clock(), log))
        self._finished_bytes += log.size
        self._expire()

    def _expire(self) -> None:
        """Forget finished Runs: the oldest are in front. Constant time for each Run, over all."""
        oldest = self._clock() - self._keep_seconds
        while self._finished and (
            self._finished[0][0] < oldest
            or len(self._finished) > self._keep_finished
            or self._finished_bytes > self._keep_bytes
        ):
            _, log = self._finished.popleft()
            self._finished_bytes -= log.size
            del self._logs[log.run_id]


async def _follow(log: _Log, seq: int) -> AsyncGenerator[NumberedEvent]:
    while True:
        while seq < log.last:
            seq += 1
            yield log.get(seq)
        if log.finished:
            return
        await log.grown()


def _size(event: RunEvent) -> int:
    match event:
        case TextDelta(text=text) | ReasoningDelta(text=text):
            return EVENT_BYTES + len(text)
        case _:
            return EVENT_BYTES
