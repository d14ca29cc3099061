"""Brings what happens in Runs to the disk: of all Runs together, a moment later."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from itertools import islice

from .....domain.errors import StoreFailed
from .....domain.ports import Clock
from ...common import wake, woken
from ..writer import MAX_GROUP, GroupWriter
from .persisted import PersistedRun
from .writes import Batch, write_batches

_RETRY_AFTER = 1.0
"""Seconds until what could not be written is tried again, where nobody waits for it."""
_LEAST_APART = 0.005
"""Seconds between two commits at least, so that many Runs share them."""
MOST_UNKEPT = 20_000
"""Runs that wait for a file that cannot be written, each with about a kilobyte; no more begin."""


class Flusher:
    """Commits what is new of a Run after `interval` seconds; at once where somebody waits for it,
    and soon when the Run ends. Most Runs are short, so that one commit has all of them.

    A write that fails is tried again until it succeeds, also where memory has given the Run up
    (`held` finds those that it has not). Of those that it has given up, about `bytes_waiting` bytes
    of events wait for the file; of the others only the record and the terminal event. Runs are
    kept from the time that `expiry` says at their end. `on_kept`
    gets the number of bytes of events that a Run has in the file once it has ended.
    """

    def __init__(
        self,
        writer: GroupWriter,
        *,
        interval: float,
        held: Callable[[str], PersistedRun | None],
        on_kept: Callable[[int], None],
        bytes_waiting: int,
        expiry: Clock,
    ) -> None:
        self._expiry = expiry
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._interval = interval
        self._at_end = min(interval, 0.02)
        self._held = held
        self._on_kept = on_kept
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._flushed_at = 0.0
        self._writing = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._failure: str | None = None
        self._failing = False
        self._reason = ""
        self._kept_some = False
        """Of what was handed to the writer last, something is in the file."""
        self._bytes_waiting = bytes_waiting
        self._given_up: dict[str, PersistedRun] = {}
        self._given_up_bytes = 0
        self._closing = False
        self._closed = False
        self.unkept: dict[str, PersistedRun] = {}
        """The Runs of which something is not in the file yet."""

    def note(self, log: PersistedRun) -> None:
        """There is something new in the log."""
        if log.finished and log.kept_from is None:
            log.kept_from = self._expiry()
        now = self._loop.time()
        if not log.dirty:
            log.dirty, log.dirty_since = True, now
            self.unkept[log.run_id] = log
        self._plan(log, now)

    def give_up(self, log: PersistedRun) -> None:
        """Memory has given up a Run that has ended."""
        if self.unkept.get(log.run_id) is not log:
            return
        self._given_up[log.run_id] = log
        self._given_up_bytes += log.size
        while self._given_up_bytes > self._bytes_waiting:
            oldest = self._given_up[next(iter(self._given_up))]
            self._forget_given_up(oldest)
            oldest.shrink()

    @property
    def trouble(self) -> str | None:
        """Why events cannot be written; None once a flush has written everything."""
        if not self._reason:
            return None
        return f"{self._reason} Runs go on, and writing is tried again."

    def check_room(self) -> None:
        """Raises StoreFailed where too many Runs wait for the file to begin another one."""
        if len(self.unkept) >= MOST_UNKEPT:
            raise StoreFailed(
                f"{len(self.unkept)} runs wait for the run log, which cannot be written. "
                "No other begins until it can."
            )

    async def kept(self, log: PersistedRun) -> None:
        """Return once more of the log is in the file, or the log is gone. Raises StoreFailed."""
        if self._closed:
            raise StoreFailed("The run log is closed.")
        waiting = woken(log.kept_waiters)
        if log.taken < log.last:
            self._loop.call_soon(self.note, log)  # By then it is seen that somebody waits.
        await waiting

    def flush(self) -> None:
        """Hand what is due to the writer; all that is new where the last write failed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushed_at = now = self._loop.time()
        # After a flush of which nothing was kept, no more than what fails in one go: each group of
        # them may wait for a lock.
        most = MAX_GROUP if self._failing and not self._kept_some and not self._closing else None
        self._kept_some = False
        old = now + max(self._at_end, _LEAST_APART) - self._interval
        if self._failing or self._closing:
            old = now
        due = (log for log in self.unkept.values() if log.dirty and log.is_due(old))
        for log in islice(due, most):
            batch = log.take()
            written = self._writer.submit_batched(write_batches, batch)
            self._writing += 1
            self._idle.clear()
            written.add_done_callback(partial(self._written, log, batch))
        if not self._writing:
            self._plan_all()

    async def close(self) -> None:
        """Keep all there is, if that is possible."""
        await self._idle.wait()
        self._closing = True
        self.flush()
        self._closed = True
        await self._idle.wait()

    def _plan_all(self) -> None:
        now = self._loop.time()
        for log in self.unkept.values():
            if log.dirty:
                self._plan(log, now)

    def _plan(self, log: PersistedRun, now: float) -> None:
        """See to it that the log is flushed in time."""
        if self._writing or self._closed:
            return  # What happens meanwhile is seen to afterwards.
        if log.kept_waiters:
            due = max(now, self._flushed_at + _LEAST_APART)
        elif self._failing:
            due = now + _RETRY_AFTER
        elif log.finished:
            due = now + self._at_end
        else:
            due = max(now, log.dirty_since + self._interval)
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(due - now, self.flush)

    def _written(self, log: PersistedRun, batch: Batch, written: asyncio.Future[int]) -> None:
        error = written.exception()
        if error is None:
            self._keep(log, batch, written.result())
        else:
            self._take_back(log, error)
        self._writing -= 1
        if not self._writing:
            self._after_all()

    def _keep(self, log: PersistedRun, batch: Batch, size: int) -> None:
        log.known = log.known or batch.record is not None
        if batch.events is not None:
            log.kept = batch.events.last
        self._kept_some = True
        if not log.dirty:
            self._drop(log)
        if size:
            self._on_kept(size)
        wake(log.kept_waiters)

    def _take_back(self, log: PersistedRun, error: BaseException) -> None:
        self._failure = str(error) or repr(error)
        if not _is_conflict(error):
            self._reason = self._failure
        log.untake()
        # An id that the file knows as another Run's is never free.
        log.dirty = not _is_conflict(error) or self._held(log.run_id) is log
        if not log.dirty:
            self._drop(log)
        log.disappoint(self._failure)

    def _drop(self, log: PersistedRun) -> None:
        self.unkept.pop(log.run_id, None)
        self._forget_given_up(log)

    def _forget_given_up(self, log: PersistedRun) -> None:
        if self._given_up.pop(log.run_id, None) is not None:
            self._given_up_bytes -= log.size

    def _after_all(self) -> None:
        """Go on with what has come meanwhile."""
        failure, self._failure = self._failure, None
        self._failing = failure is not None
        if failure is None:
            self._reason = ""
        self._idle.set()
        if failure is not None:
            for log in self.unkept.values():
                if log.kept_waiters:
                    log.disappoint(failure)  # It may not have been among those that were tried.
        self._plan_all()


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error.__cause__, sqlite3.IntegrityError)
