"""One Run's events in memory, and the batches that its followers read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ....domain.errors import EventsExpired, ShuttingDown, UnknownRun
from ....domain.runs import (
    DELTAS,
    EVERY_KIND,
    Claim,
    EventBatch,
    RunEvent,
    RunRecord,
    RunStatus,
    consumes,
)

MOST_AT_ONCE = 256
MOST_BYTES_AT_ONCE = 256 * 1024
"""The most of one batch, so that other followers get their turn and memory is bounded."""
EVENT_BYTES = 160
"""What an event takes besides its text, roughly: the objects around it."""

Waiters = set[asyncio.Future[None]]


def wake(waiters: Waiters) -> None:
    """Let all go on who wait."""
    if not waiters:
        return
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
    except BaseException:  # Else `wake` has removed it.
        waiters.discard(waiter)
        raise


@dataclass(slots=True, eq=False)
class Log:
    """One Run's events; the oldest fall out when there are too many."""

    begun: RunRecord
    """As it was when the Run was reserved or opened."""
    number: int = 0
    """Of the Run: later ones have higher ones."""
    opened: bool = False
    """False: only reserved."""
    events: list[RunEvent] = field(default_factory=list)
    last: int = 0
    size: int = 0
    status: RunStatus = RunStatus.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    finished: bool = False
    owner: str = ""
    attempt: int = 0
    """With the owner, the fencing token: nobody else may append."""
    lease_until: float | None = None
    handed_back: bool = False
    """This process ends in an orderly way before the Run does, and appends nothing more."""
    waiters: Waiters = field(default_factory=set)
    end_waiters: Waiters = field(default_factory=set)

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
        begun = self.begun
        return RunRecord(  # `replace` would take twice as long, for each Run.
            begun.id,
            begun.session_key,
            begun.agent_id,
            begun.principal_id,
            begun.source,
            begun.on_leave,
            begun.fingerprint,
            self.status,
            begun.accepted_at,
            self.started_at,
            self.ended_at,
            self.last,
            self.owner,
            self.attempt,
            None if self.finished else self.lease_until,
        )

    def lease(self, claim: Claim, until: float) -> None:
        """From now on the claim's owner and attempt are the Run's, until that Unix time."""
        self.owner, self.attempt = claim.owner, claim.attempt
        self.lease_until = until

    def behind(self, seq: int, last: int) -> EventBatch:
        """The events behind `seq` up to `last`, MOST_AT_ONCE of them at most.

        Raises EventsExpired where the first of them is gone.
        """
        events = self.events
        start = seq - self.last + len(events)
        if start < 0:
            raise expired(self.run_id, seq + 1, self.first)
        end = start + last - seq
        if end - start > MOST_AT_ONCE:
            end = start + MOST_AT_ONCE
        found = events[start:end]
        if self.size > MOST_BYTES_AT_ONCE:
            found = _first_of(found)
        return EventBatch(seq + 1, tuple(found))


def _first_of(events: list[RunEvent]) -> list[RunEvent]:
    """The first events, at least one, of MOST_BYTES_AT_ONCE together."""
    size = 0
    for count, event in enumerate(events):
        size += size_of(event)
        if count and size > MOST_BYTES_AT_ONCE:
            return events[:count]
    return events


class HeldEvents:
    """The events of a Log behind a number, from memory, until the end.

    Waiting may be given up and begun again. Raises EventsExpired; UnknownRun where a reservation
    was taken back; and ShuttingDown where the Run was handed back.
    """

    __slots__ = ("_log", "_seq")

    def __init__(self, log: Log, after: int) -> None:
        self._log = log
        self._seq = after

    def __aiter__(self) -> HeldEvents:
        return self

    async def __anext__(self) -> EventBatch:
        log = self._log
        while self._seq >= log.last:
            if log.finished:
                raise StopAsyncIteration
            if log.handed_back:
                raise left_behind(log.run_id)
            await woken(log.waiters)
            if not (log.opened or log.last):
                raise unknown(log.run_id)
        batch = log.behind(self._seq, log.last)
        self._seq += len(batch.events)
        return batch


def unknown(run_id: str) -> UnknownRun:
    return UnknownRun(f"There is no run {run_id!r}, or it ended too long ago.")


def left_behind(run_id: str) -> ShuttingDown:
    return ShuttingDown(
        f"The Gateway is shutting down; run {run_id!r} goes on when it is started again."
    )


def expired(run_id: str, seq: int, oldest: int) -> EventsExpired:
    return EventsExpired(
        f"Event {seq} of run {run_id!r} is no longer kept; the oldest kept one is {oldest}."
    )


@consumes(*EVERY_KIND)
def size_of(event: RunEvent) -> int:
    """About how many bytes an event takes in memory."""
    if isinstance(event, DELTAS):
        return EVENT_BYTES + len(event.text)
    return EVENT_BYTES
