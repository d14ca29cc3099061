"""Runs and their events in memory: bounded for each Run and over all, forgotten after a while."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ....domain.errors import LeaseLost
from ....domain.ports import Clock
from ....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    EVERY_KIND,
    TERMINAL,
    TOOL_EVENTS,
    Claim,
    Resumed,
    RunEvent,
    RunRecord,
    RunStatus,
    Started,
    StepDone,
    Waiting,
    consumes,
    status_after,
)
from .event_logs import EVENT_BYTES, Log, size_of, unknown, wake, woken


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


L = TypeVar("L", bound=Log)


class LiveRuns(Generic[L]):
    """The Runs that this process holds in memory, by their ids."""

    def __init__(
        self,
        make: Callable[[RunRecord], L],
        clock: Clock,
        bounds: Bounds,
        *,
        steady: Clock = time.monotonic,
        on_forget: Callable[[L], None] = lambda _: None,
    ) -> None:
        """`steady` never jumps: what is forgotten goes by it. `on_forget` is called for every
        finished Run that is forgotten."""
        self._make = make
        self._clock = clock
        self._steady = steady
        self._on_forget = on_forget
        self._max_events = bounds.events_per_run
        self._max_bytes = bounds.bytes_per_run
        self._bounds = bounds
        self._logs: dict[str, L] = {}
        self._finished: deque[tuple[float, L]] = deque()
        self._finished_bytes = 0

    def __iter__(self) -> Iterator[L]:
        return iter(self._logs.values())

    def get(self, run_id: str) -> L | None:
        log = self._logs.get(run_id)
        if log is not None and log.finished:  # No other is ever forgotten.
            self._expire()
            log = self._logs.get(run_id)
        return log

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

    async def ended(self, run_id: str) -> None:
        """Return once the Run has its terminal event, or is not here."""
        log = self.get(run_id)
        if log is not None and not log.finished:
            await woken(log.end_waiters)

    def requeue(self, run_id: str) -> L:
        """The Run is queued once more, and nobody's."""
        log = self.find(run_id)
        log.status, log.owner, log.lease_until = RunStatus.QUEUED, "", None
        return log

    def hand_back(self, run_id: str) -> L:
        """The Run goes on in another process. Who follows it here gets ShuttingDown."""
        log = self.requeue(run_id)
        log.handed_back = True
        wake(log.waiters)
        wake(log.end_waiters)
        return log

    @consumes(*EVERY_KIND)
    def append(self, run_id: str, events: Sequence[RunEvent], claim: Claim | None = None) -> L:
        """The log that the events were added to: all, or none. Raises UnknownRun, RuntimeError
        behind the end, and LeaseLost where the Run is not, or no longer, the claim's.

        Every token of every Run passes here.
        """
        log = self._logs.get(run_id)
        if claim is not None and (
            log is None or log.finished or log.attempt != claim.attempt or log.owner != claim.owner
        ):
            raise LeaseLost(f"The lease of run {run_id!r} was lost.")
        if log is None:
            raise unknown(run_id)
        size, others = 0, False
        for event in events:
            size += EVENT_BYTES
            if isinstance(event, DELTAS):
                size += len(event.text)
            else:
                others = True
        if log.finished or (others and any(isinstance(e, TERMINAL) for e in events[:-1])):
            raise RuntimeError(f"run {run_id!r} has ended: nothing can come behind its end")
        log.events.extend(events)
        log.last += len(events)
        log.size += size
        if log.size > self._max_bytes or len(log.events) > self._max_events:
            self._drop_oldest(log)
        if others:
            for event in events:
                self._change(log, event)
        if log.waiters:
            wake(log.waiters)
        return log

    def _drop_oldest(self, log: L) -> None:
        count, left = 0, len(log.events)
        while left - count > self._max_events or (log.size > self._max_bytes and left - count > 1):
            log.size -= size_of(log.events[count])
            count += 1
        del log.events[:count]

    @consumes(
        Started,
        Resumed,
        Waiting,
        *TERMINAL,
        ignores=(*DELTAS, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone),
    )
    def _change(self, log: L, event: RunEvent) -> None:
        """What an event says of its Run; deltas say nothing."""
        log.status = status_after(event) or log.status
        if isinstance(event, Started):
            log.started_at = self._clock()
        elif isinstance(event, Waiting):
            log.owner, log.lease_until = "", None
        elif isinstance(event, TERMINAL):
            log.ended_at = self._clock()
            log.finished = True
            wake(log.end_waiters)
            self._finished.append((self._steady(), log))
            self._finished_bytes += log.size
            self._expire()

    def _expire(self) -> None:
        """Forget finished Runs: the oldest are in front. Constant time for each Run, over all."""
        if not self._finished:
            return
        bounds = self._bounds
        oldest = self._steady() - bounds.seconds
        while self._finished and (
            self._finished[0][0] < oldest
            or len(self._finished) > bounds.finished
            or self._finished_bytes > bounds.finished_bytes
        ):
            _, log = self._finished.popleft()
            self._finished_bytes -= log.size
            del self._logs[log.run_id]
            self._on_forget(log)
