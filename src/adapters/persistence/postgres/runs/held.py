"""The Runs that this process holds: leased to it, with their newest events in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .....domain.errors import LeaseLost
from .....domain.ports import Clock, Worker
from .....domain.runs import (
    Claim,
    EventBatch,
    OnLeave,
    RunEvent,
    RunRecord,
    RunSpec,
    RunStatus,
)
from ...common import BOUNDS, Bounds, LiveRuns, Log, Waiters, wake, woken
from ..availability import MOST_OUTAGE
from .rows import StoredRun


@dataclass(slots=True, eq=False)
class Server:
    """An owner that takes claims."""

    owner: str
    worker: Worker
    silent: bool = False
    """One of its leases has expired, and it has renewed none since."""


@dataclass(slots=True, eq=False)
class HeldRun(Log):
    """The events of a Run since its attempt began, and what the database has of them."""

    claim: Claim | None = None
    server: Server | None = None
    lane: bytes | None = None
    channel: int = 0
    """The number of the channel of its bells."""
    kept: int = 0
    """Events up to this one are in the database."""
    unkept: int = 0
    """About how many bytes are not."""
    flushes: int = 0
    dirty: bool = False
    """The Flusher will store its new events."""
    deadline: float = 0.0
    """When the lease ends by this process's clock, which is never later than by the database's."""
    renewed_at: float = 0.0
    closing: bool = False
    """Its last events are on their way into the database."""
    gone: bool = False
    """This process no longer holds it."""
    lost: bool = False
    """It is gone because its lease was lost."""
    accepted_here: bool = False
    on_release: Callable[[], None] | None = None
    abort_reason: str | None = None
    """Its owner was asked to stop it."""
    signals: list[int] = field(default_factory=list)
    """The ids of those that its attempt got, in order."""
    kept_waiters: Waiters = field(default_factory=set)
    followed_kept: bool = False
    """It has a follower here that gets events only once they are kept."""
    patient_until: float = 0.0
    """Its events are not stored by themselves before this time of the event loop."""
    flushing: bool = False
    """Some of its events are on their way into the database."""

    @property
    def is_read_here(self) -> bool:
        """Whether its client, which cannot come back for it, reads its events from the memory of
        this process: others may get them a moment later."""
        return self.accepted_here and is_ephemeral(self.begun, self.begun.fingerprint)

    @property
    def held_claim(self) -> Claim:
        if self.claim is None:
            raise LeaseLost(f"The lease of run {self.run_id!r} was lost.")
        return self.claim

    def next_batch(self, *more: RunEvent) -> EventBatch:
        """What the database does not have yet, and these: as much as one row may have."""
        if self.kept == self.last:
            return EventBatch(self.kept + 1, more)
        batch = self.behind(self.kept, self.last)
        if batch.last < self.last:
            return batch
        return EventBatch(batch.first, (*batch.events, *more))

    def keep(self, last: int) -> None:
        """The database has the events up to this one."""
        if last > self.kept:
            self.kept = last
            wake(self.kept_waiters)


class HeldRuns:
    """By their ids. Runs that have ended here stay in memory for a while. `away_within`: whether
    the database could not be reached in so many seconds."""

    def __init__(
        self,
        *,
        clock: Clock,
        bounds: Bounds = BOUNDS,
        steady: Clock = time.monotonic,
        away_within: Callable[[float], bool] = lambda _: False,
    ) -> None:
        self._away_within = away_within
        self._live: LiveRuns[HeldRun] = LiveRuns(HeldRun, clock, bounds, steady=steady)
        self._most_unkept = bounds.bytes_per_run // 2
        self._most_events = bounds.events_per_run // 2
        self._steady = steady
        self.idle_waiters: Waiters = set()
        self.on_hold: list[Callable[[HeldRun], None]] = []

    def __iter__(self) -> Iterator[HeldRun]:
        """Those that have not ended."""
        return (run for run in self._live if not run.finished)

    def get(self, run_id: str) -> HeldRun | None:
        return self._live.get(run_id)

    def of(self, claim: Claim) -> HeldRun:
        """The Run that the claim is for. Raises LeaseLost."""
        run = self._live.get(claim.spec.id)
        if (
            run is None
            or run.finished
            or run.owner != claim.owner
            or run.attempt != claim.attempt
            or run.closing
        ):
            raise lease_lost(claim.spec.id)
        if self.is_expired(run):
            self.lose(run)
            raise lease_lost(claim.spec.id)
        return run

    def is_expired(self, run: HeldRun) -> bool:
        """Whether another process may have the Run. While the database cannot be reached, and for a
        moment after that, in which leases are renewed, the Run goes on: others cannot take it over
        either, and a tool is called only after its call was stored."""
        now, lease = self._steady(), run.deadline - run.renewed_at
        return now > run.deadline and not (
            now < run.renewed_at + MOST_OUTAGE and self._away_within(lease / 3)
        )

    def any_overdue(self) -> bool:
        """Whether a lease was not renewed in time, and the Run goes on."""
        now = self._steady()
        return any(now > run.deadline for run in self)

    def hold(self, stored: StoredRun, claim: Claim, server: Server, *, since: float) -> HeldRun:
        """The Run is this process's from now on; `since`: when its lease was requested."""
        earlier = self._live.get(claim.spec.id)
        if earlier is not None and not earlier.finished:
            self.lose(earlier)
        run = self._live.add(stored.record)
        run.opened, run.number = True, stored.number
        run.claim, run.server = claim, server
        run.owner, run.attempt, run.lease_until = claim.owner, claim.attempt, claim.lease_until
        run.lane = stored.lane
        run.last = run.kept = stored.record.last_seq
        run.status, run.started_at = stored.record.status, stored.record.started_at
        run.renewed_at = since
        for held in self.on_hold:
            held(run)
        return run

    def append(self, run: HeldRun, events: Sequence[RunEvent], claim: Claim | None = None) -> None:
        """Add events in memory. Raises LeaseLost."""
        if run.gone and claim is None:
            return  # It was given up while the database stored them: followers read them there.
        before = run.size
        self._live.append(run.run_id, events, claim)
        run.unkept += max(run.size - before, 0)

    async def room(self, run: HeldRun) -> None:
        """Return once not very much of the Run waits for the database."""
        while (
            run.unkept > self._most_unkept or run.last - run.kept > self._most_events
        ) and not run.gone:
            await woken(run.kept_waiters)

    def lose(self, run: HeldRun) -> None:
        """The Run has, or will have, another owner: its events that are not kept are void."""
        run.lost = True
        self.leave(run)

    def leave(self, run: HeldRun) -> None:
        """The Run goes on without this process, or waits."""
        if not run.gone:
            run.gone = True
            self._live.remove(run)
            self.release(run)
            wake(run.kept_waiters)
            wake(run.end_waiters)

    def end(self, run: HeldRun, ending: RunEvent) -> None:
        """The Run has ended, and the database has all of it."""
        self.append(run, (ending,))
        run.keep(run.last)
        self.release(run)

    def release(self, run: HeldRun) -> None:
        released, run.on_release = run.on_release, None
        if released is not None:
            released()
        if self.idle_waiters and not any(True for _ in self):
            wake(self.idle_waiters)

    async def idle(self) -> None:
        while any(True for _ in self):
            await woken(self.idle_waiters)

    def records(self) -> dict[str, tuple[int, RunRecord]]:
        """By id, the numbers and records of the Runs that are held, at least as new as those in the
        database."""
        return {run.run_id: (run.number, run.record) for run in self}

    def requeued(self, run: HeldRun) -> None:
        """The Run was handed back."""
        run.handed_back = True
        run.status, run.owner = RunStatus.QUEUED, ""
        self.leave(run)


def is_ephemeral(run: RunSpec | RunRecord, fingerprint: str) -> bool:
    """Whether no later request can ask for the Run: it ends with its client, and has no idempotency
    key."""
    return run.on_leave is OnLeave.ABORT and not fingerprint


def lease_lost(run_id: str) -> LeaseLost:
    return LeaseLost(f"The lease of run {run_id!r} was lost.")


async def within(seconds: float, waiters: Waiters) -> None:
    """Wait among them, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await woken(waiters)
    except TimeoutError:
        pass
