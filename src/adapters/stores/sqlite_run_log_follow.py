"""A Run's events as they are kept: from the file what memory no longer has, then from memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial

from ...domain.errors import StoreFailed
from ...domain.runs import NumberedEvent
from .run_log_events import expired, unknown
from .sqlite_readers import Readers
from .sqlite_run_log_keeper import Keeper
from .sqlite_run_log_kept import KeptLog
from .sqlite_run_log_reads import Kept, read_events


async def follow_kept(
    run_id: str,
    seq: int,
    *,
    held: Callable[[str], KeptLog | None],
    keeper: Keeper,
    readers: Readers,
) -> AsyncGenerator[NumberedEvent]:
    """RunLog.follow_kept, behind event `seq`. `held` finds a Run in memory."""
    while True:
        log = held(run_id)
        if log is not None and seq + 1 >= log.first:
            while log.first <= seq + 1 <= log.kept:
                seq += 1
                yield log.get(seq)
            if log.finished and seq >= log.last:
                return
            if seq + 1 >= log.first and seq >= log.kept:
                await keeper.kept(log)
            continue
        kept = await readers.run(partial(read_events, run_id=run_id, after=seq))
        for numbered in kept.events if kept is not None else ():
            if numbered.seq != seq + 1:
                raise expired(run_id, seq + 1, numbered.seq)
            seq += 1
            yield numbered
        if (kept is None or not kept.events) and held(run_id) is log:
            _end(run_id, seq, log, kept)
            return


def _end(run_id: str, seq: int, log: KeptLog | None, kept: Kept | None) -> None:
    """Return where there is nothing behind `seq` to wait for; else raise what has become of it."""
    if log is not None:
        raise expired(run_id, seq + 1, log.first)
    if kept is None:
        raise unknown(run_id)
    if seq < kept.record.last_seq:
        raise expired(run_id, seq + 1, kept.record.last_seq + 1)
    if not kept.record.status.final:
        raise StoreFailed(f"How run {run_id!r} ended could not be kept.")
