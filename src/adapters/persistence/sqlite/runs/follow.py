"""A Run's events as they are kept: from the file what memory no longer has, then from memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .....domain.errors import StoreFailed
from .....domain.runs import EventBatch
from ...common import expired, left_behind, unknown
from ..readers import Readers
from .flusher import Flusher
from .persisted import PersistedRun
from .reads import Kept, read_events


class KeptEvents:
    """RunEvents.follow_kept, behind event `seq`. `held` finds a Run in memory."""

    def __init__(
        self,
        run_id: str,
        seq: int,
        *,
        held: Callable[[str], PersistedRun | None],
        keeper: Flusher,
        readers: Readers,
    ) -> None:
        self._run_id = run_id
        self._seq = seq
        self._held = held
        self._keeper = keeper
        self._readers = readers

    def __aiter__(self) -> KeptEvents:
        return self

    async def __anext__(self) -> EventBatch:
        while True:
            log, seq = self._held(self._run_id), self._seq
            if log is None or seq + 1 < log.first:
                batch = await self._read(log)
            elif seq < log.kept:
                batch = log.behind(seq, log.kept)
            elif log.finished and seq >= log.last:
                raise StopAsyncIteration
            elif log.handed_back and seq >= log.last:
                raise left_behind(self._run_id)
            else:
                await self._keeper.kept(log)
                continue
            if batch is not None:
                self._seq = batch.last
                return batch

    async def _read(self, log: PersistedRun | None) -> EventBatch | None:
        """From the file. None where to look has changed meanwhile."""
        read = partial(read_events, run_id=self._run_id, after=self._seq)
        kept = await self._readers.run(read)
        if kept is not None and kept.batch is not None:
            if kept.batch.first != self._seq + 1:
                raise expired(self._run_id, self._seq + 1, kept.batch.first)
            return kept.batch
        if self._held(self._run_id) is log:
            _end(self._run_id, self._seq, log, kept)
            raise StopAsyncIteration
        return None


def _end(run_id: str, seq: int, log: PersistedRun | None, kept: Kept | None) -> None:
    """Return where there is nothing behind `seq` to wait for; else raise what has become of it."""
    if log is not None:
        raise expired(run_id, seq + 1, log.first)
    if kept is None:
        raise unknown(run_id)
    if seq < kept.record.last_seq:
        raise expired(run_id, seq + 1, kept.record.last_seq + 1)
    if not kept.record.status.final:
        raise StoreFailed(f"How run {run_id!r} ended could not be kept.")
