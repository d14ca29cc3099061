"""Ids of Runs, reserved: in memory before anything is waited for, then on the disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from .....domain.concurrency import shielded
from .....domain.errors import StoreFailed
from .....domain.runs import RunRecord, RunSpec
from ...common import LiveRuns, wake
from ..writer import GroupWriter
from .persisted import PersistedRun
from .writes import delete_run, reserve_run

logger = logging.getLogger(__name__)


class Reservations:
    """Of callers at the same time one gets the id; the others wait until it is known that it did.

    `held` finds a Run in memory.
    """

    def __init__(
        self,
        live: LiveRuns[PersistedRun],
        writer: GroupWriter,
        held: Callable[[str], PersistedRun | None],
    ) -> None:
        self._live = live
        self._writer = writer
        self._held = held
        self.leftover: set[str] = set()
        """Ids that were taken back, but are still in the file, which could not be written."""

    async def settled(self, run_id: str) -> PersistedRun | None:
        """The Run, where it is in memory, once it is known whether its id is its own."""
        while (log := self._held(run_id)) is not None and log.claim is not None:
            await asyncio.wait([log.claim])
        return log

    async def reserve(self, record: RunRecord, spec: RunSpec | None) -> RunRecord | None:
        """RunEvents.reserve. Raises StoreFailed, and then the id is free."""
        log = await self.settled(record.id)
        if log is not None:
            return log.record
        log = self._live.add(record)
        log.spec = spec
        log.claim = asyncio.get_running_loop().create_future()
        replace = record.id in self.leftover
        work = partial(reserve_run, number=log.number, spec=spec, record=record, replace=replace)
        reserving = self._writer.submit(work)
        reserving.add_done_callback(partial(self._reserved, log))
        try:
            return await shielded(reserving)
        except asyncio.CancelledError:
            # Nobody knows of this reservation: it must not keep others from the id.
            reserving.add_done_callback(partial(self._abandon, log))
            raise

    async def release(self, log: PersistedRun) -> None:
        """Take a reservation back; where the file cannot be written, at least in this process."""
        released = self._delete(log)
        await asyncio.wait([released])

    def _reserved(self, log: PersistedRun, reserving: asyncio.Future[RunRecord | None]) -> None:
        if reserving.exception() is None and reserving.result() is None:
            log.known, log.written_status = True, log.status
            log.spec_taken = log.spec is not None
            self.leftover.discard(log.run_id)
            self._settle(log)
        else:
            self._forget(log)

    def _abandon(self, log: PersistedRun, reserving: asyncio.Future[RunRecord | None]) -> None:
        if self._held(log.run_id) is log and not log.opened:
            with suppress(StoreFailed):  # Closed meanwhile: the next start finds it unfinished.
                self._delete(log)

    def _delete(self, log: PersistedRun) -> asyncio.Future[None]:
        deleting = self._writer.submit(partial(delete_run, number=log.number))
        log.claim = asyncio.get_running_loop().create_future()
        deleting.add_done_callback(partial(self._deleted, log))
        return deleting

    def _deleted(self, log: PersistedRun, deleting: asyncio.Future[None]) -> None:
        error = deleting.exception()
        if error is not None:
            self.leftover.add(log.run_id)
            reason = {"run": log.run_id, "reason": str(error)}
            logger.warning("a reservation could not be taken back on the disk", extra=reason)
        self._forget(log)

    def _forget(self, log: PersistedRun) -> None:
        self._live.remove(log)
        wake(log.kept_waiters)
        self._settle(log)

    def _settle(self, log: PersistedRun) -> None:
        claim, log.claim = log.claim, None
        if claim is not None:
            claim.set_result(None)
