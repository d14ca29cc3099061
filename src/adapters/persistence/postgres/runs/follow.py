"""A Run's events: from memory where this process holds the Run, else from the database."""

from __future__ import annotations

from .....domain.errors import StoreFailed
from .....domain.runs import EventBatch
from ...common import left_behind, woken
from .held import HeldRun, HeldRuns
from .watches import Watch, Watches


class Follower:
    """The events behind `seq`, until the end, wherever the Run goes. `kept`: each once the database
    has it.

    Waiting may be given up and begun again.
    """

    __slots__ = ("_held", "_kept", "_run", "_run_id", "_seq", "_watch", "_watches")

    def __init__(
        self, run_id: str, seq: int, *, kept: bool, held: HeldRuns, watches: Watches
    ) -> None:
        self._run_id = run_id
        self._seq = seq
        self._kept = kept
        self._held = held
        self._watches = watches
        self._watch: Watch | None = None
        self._run: HeldRun | None = held.get(run_id)
        """As it was held here last."""

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> EventBatch:
        while True:
            run = self._held.get(self._run_id)
            if run is not self._run and self._run is not None:
                self._leave(self._run)
            self._run = run
            if run is not None and self._kept:
                run.followed_kept = True
            batch = await (self._from_memory(run) if run is not None else self._from_database())
            if batch is not None:
                self._seq = batch.last
                return batch

    def _leave(self, run: HeldRun) -> None:
        """The Run is not held here any more, or by another attempt."""
        if run.handed_back:
            raise left_behind(self._run_id)
        if run.lost and self._seq > run.kept:
            raise StoreFailed(
                f"This process does not execute run {self._run_id!r} any more, and could not store "
                f"its events behind number {run.kept}."
            )
        if run.finished and self._seq >= run.last:
            raise StopAsyncIteration

    async def _from_memory(self, run: HeldRun) -> EventBatch | None:
        last = run.kept if self._kept else run.last
        if self._seq + 1 < run.first and self._seq < run.kept:
            return await self._from_database(wait=False)
        if self._seq < last:
            return run.behind(self._seq, last)
        if run.finished and self._seq >= run.last:
            raise StopAsyncIteration
        await woken(run.kept_waiters if self._kept else run.waiters)
        return None

    async def _from_database(self, *, wait: bool = True) -> EventBatch | None:
        watch = self._watch = self._watch or self._watches.get(self._run_id)
        await self._watches.begin(watch)
        batch = watch.behind(self._seq)
        if batch is not None:
            return batch
        if watch.stale or self._seq < watch.last or not wait:
            batch = await self._watches.read(watch, self._seq)
            if batch is not None:
                return batch
        if watch.final and self._seq >= watch.last:
            raise StopAsyncIteration
        if wait and not watch.stale and self._seq >= watch.last:
            await woken(watch.waiters)
        return None
