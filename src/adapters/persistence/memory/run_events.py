"""The events of Runs in this process's memory, and what is known of the Runs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from itertools import count

from ....domain.ports import Clock
from ....domain.runs import Claim, EventBatch, RunEvent, RunPage, RunQuery, RunRecord, RunSpec
from ..common import BOUNDS, Bounds, HeldEvents, LiveRuns, Log, encode_cursor, page_of
from ..queue import KeptSpec


class MemoryRunEvents:
    """RunEvents of one process and one event loop. To be kept is to be in memory, for a time that
    `steady` measures.

    Every Run that is opened must get its terminal event, or it is never forgotten.
    """

    def __init__(
        self, *, clock: Clock, bounds: Bounds = BOUNDS, steady: Clock = time.monotonic
    ) -> None:
        self._live = LiveRuns(self._make_log, clock, bounds, steady=steady)
        self._numbers = count(1)

    async def start(self) -> None:
        """There is nothing to make ready."""

    async def reserve(self, record: RunRecord, spec: RunSpec | None = None) -> RunRecord | None:
        known = self._live.get(record.id)
        if known is not None:
            return known.record
        self._live.add(record)
        return None

    async def release(self, run_id: str) -> None:
        log = self._live.get(run_id)
        if log is not None and not log.opened:
            self._live.remove(log)

    def open(self, record: RunRecord) -> None:
        """Raises ValueError when the Run has a log already."""
        self._live.open(record)

    def lease(self, claim: Claim, until: float) -> None:
        self._live.find(claim.spec.id).lease(claim, until)

    def requeue(self, run_id: str) -> None:
        self._live.requeue(run_id)

    def keep(self, spec: RunSpec) -> None:
        """Nothing outlives this process."""

    def hand_back(self, run_id: str) -> bool:
        return False

    def put(self, run_id: str, *events: RunEvent) -> int:
        """Raises UnknownRun for one that was never opened, or is forgotten."""
        return self._live.append(run_id, events).last

    async def append(self, claim: Claim, events: Sequence[RunEvent]) -> int:
        return self._live.append(claim.spec.id, events, claim).last

    async def ended(self, run_id: str) -> None:
        await self._live.ended(run_id)

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """Raises UnknownRun at once, EventsExpired at the event that is gone."""
        return HeldEvents(self._live.find(run_id), max(after, 0))

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        return self.follow(run_id, after)

    async def find(self, run_id: str) -> RunRecord | None:
        log = self._live.get(run_id)
        return None if log is None else log.record

    async def which_go_on(self, run_ids: Collection[str]) -> frozenset[str]:
        logs = ((run_id, self._live.get(run_id)) for run_id in run_ids)
        return frozenset(
            run_id for run_id, log in logs if log is not None and not log.record.status.final
        )

    async def cursor(self, run_id: str) -> str | None:
        log = self._live.get(run_id)
        return None if log is None else encode_cursor(log.number)

    async def list(self, query: RunQuery) -> RunPage:
        return page_of([(log.number, log.record) for log in self._live], query)

    async def unfinished(self) -> tuple[RunRecord, ...]:
        """There are none: what an earlier process had in memory is gone."""
        return ()

    def kept_spec(self, run_id: str) -> KeptSpec | None:
        return None

    def _make_log(self, record: RunRecord) -> Log:
        return Log(record, number=next(self._numbers))

    def trouble(self) -> str | None:
        return None

    async def close(self) -> None:
        """There is nothing to let go of."""
