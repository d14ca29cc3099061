"""A writing thread with group commit.

Callers submit jobs from the event loop and get futures. The thread takes all queued jobs, runs them
in one transaction and commits once, with one fsync. If a job fails, the transaction is rolled back
and every job is retried in a transaction of its own, so that one cannot affect the others. After
the commit the thread checks that the database's files are still in place, and then settles the
futures in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from ....domain.errors import StoreFailed
from ..common import FailureLog
from .files import DatabaseFiles, FileLost
from .integrity import Damaged, is_damage
from .schema import close_database

logger = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

_GATHERING = 0.0007
"""Seconds to wait for further jobs, if the last group had several: a commit costs the same."""
MAX_GROUP = 128
"""Maximum jobs per transaction, which bounds the latency of the first."""

BatchWork = Callable[[sqlite3.Connection, Sequence[A]], Sequence[T]]
"""Does several pieces of work at once and returns their results."""

Renew = Callable[[Exception], tuple[sqlite3.Connection, DatabaseFiles] | None]
"""Opens a new database in place of a damaged or lost one; None: not now. Called in the writer's
thread. Raises StoreFailed."""


class Job(Generic[A, T]):
    """A piece of work inside a transaction, and the future of its result."""

    __slots__ = ("_future", "_name", "error", "piece", "renewal", "result", "work")

    def __init__(
        self, name: str, work: BatchWork[A, T], piece: A, future: asyncio.Future[T], renewal: int
    ) -> None:
        self._name = name
        self.renewal = renewal
        self._future = future
        self.work = work
        self.piece = piece
        self.result: T
        self.error: Exception | None = None

    def settle(self) -> None:
        """Settle the future, in the event loop; it may have been cancelled."""
        if self._future.done():
            return
        match self.error:
            case None:
                self._future.set_result(self.result)
            case (sqlite3.Error() | OSError()) as error:
                failed = StoreFailed(f"The {self._name} cannot be written: {error}.")
                failed.__cause__ = error
                self._future.set_exception(failed)
            case StopIteration():  # A future rejects it, and the following jobs would not settle.
                self._future.set_exception(RuntimeError(f"the work raised {self.error!r}"))
            case error:
                self._future.set_exception(error)


def each(
    connection: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], T]]
) -> list[T]:
    """BatchWork for independent functions."""
    return [work(connection) for work in works]


def settle_all(jobs: list[Job[object, object]]) -> None:
    for job in jobs:
        job.settle()
        job.error = None  # Breaks the cycle with its traceback, which would keep the written data.


class GroupWriter:
    """Owns the writing connection. Create it in the event loop that uses it.

    `name` of the store, for messages. `files`: a commit counts only if they are still in place
    after it. `renew`: replaces a damaged or lost database; jobs that were submitted before
    `on_renewed` was called (in the event loop) fail, because they depend on the old one.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        name: str = "session store",
        *,
        files: DatabaseFiles | None = None,
        renew: Renew | None = None,
        on_renewed: Callable[[DatabaseFiles], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._connection = connection
        self._files = files
        self._renew = renew
        self._on_renewed = on_renewed
        self._renewals = 0
        """The number of replaced databases, updated in the writer's thread."""
        self._renewals_seen = 0
        """The same number in the event loop, updated together with the call of `on_renewed`."""
        self._lost: Exception | None = None
        self.failures = FailureLog(f"the {name} cannot be written")
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job[object, object] | None] = SimpleQueue()
        self._stopping = False
        self._several = False
        """The last group had several jobs, so waiting for further jobs is likely to pay off."""
        self._closed = False
        self.failing = False
        """The last commit failed, so the files are checked before the next one."""
        self.damage: Exception | None = None
        """The error that showed the damage of the database; it is not written to any more."""
        # A daemon thread does not keep a process alive that exits without `close`.
        self._thread = Thread(target=self._run, name=f"{name} writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `work` in a transaction; the future resolves when that is on disk.

        `work` may run again after an attempt that was rolled back. The future raises StoreFailed
        for an error of the database, and anything else that `work` raises.
        """
        return self.submit_batched(each, work)

    def submit_batched(self, work: BatchWork[A, T], piece: A) -> asyncio.Future[T]:
        """Like `submit`, but consecutive pieces with the same `work` are passed to it together."""
        if self._closed:
            raise StoreFailed(f"The {self._name} is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        job = Job(self._name, work, piece, future, self._renewals_seen)
        self._jobs.put(job)  # type: ignore[arg-type]  # the future knows its type
        return future

    async def close(self) -> None:
        """Commit all submitted jobs, then close the database. May be called twice."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._stopping:
            self._write()
        with suppress(sqlite3.Error):  # The disk may be full; the log remains and is durable.
            close_database(self._connection)

    def _write(self) -> None:
        """Wait for a group of jobs and do them. A separate function, so that no local variable
        keeps a job's data alive while the thread waits for the next group."""
        jobs = self._take()
        self._several = len(jobs) > 1
        try:
            self._work(jobs)
        # The outermost handler of this thread: if it ended, later writes would never complete.
        except Exception as error:
            logger.exception("the writer failed unexpectedly", extra={"store": self._name})
            with suppress(sqlite3.Error):
                self._connection.rollback()
            self._fail(jobs, error)
        with suppress(RuntimeError):  # The event loop is closed.
            self._loop.call_soon_threadsafe(settle_all, jobs)

    def _take(self) -> list[Job[object, object]]:
        """Wait for a job, then take all queued ones. None is the last item, queued by `close`."""
        jobs = []
        job = self._jobs.get()
        if self._several:
            time.sleep(_GATHERING)
        with suppress(Empty):
            while job is not None:
                jobs.append(job)
                if len(jobs) == MAX_GROUP:
                    return jobs
                job = self._jobs.get_nowait()
            self._stopping = True
        return jobs

    def _work(self, jobs: list[Job[object, object]]) -> None:
        fresh = self._without_outdated(jobs)
        if fresh:
            self._commit(fresh)
        if self._lost is not None and self._renew is not None:
            self._replace_database(self._renew, self._lost)

    def _without_outdated(self, jobs: list[Job[object, object]]) -> list[Job[object, object]]:
        """The jobs for the present database; the others fail."""
        fresh = [job for job in jobs if job.renewal == self._renewals]
        if len(fresh) < len(jobs):
            for job in jobs:
                if job.renewal != self._renewals:
                    job.error = Damaged("it was damaged or lost and has been replaced")
        return fresh

    def _replace_database(self, renew: Renew, lost: Exception) -> None:
        """Replace the database. If that fails, the next jobs fail and trigger a new attempt."""
        try:
            renewed = renew(lost)
        except StoreFailed as error:
            self.failures.failed(error.message)
            return
        if renewed is None:
            return
        outdated, (self._connection, self._files) = self._connection, renewed
        with suppress(sqlite3.Error):
            outdated.close()
        self._lost = self.damage = None
        self._renewals += 1
        with suppress(RuntimeError):  # The event loop is closed.
            self._loop.call_soon_threadsafe(self._see_renewal, self._renewals, self._files)

    def _see_renewal(self, renewals: int, files: DatabaseFiles) -> None:
        self._renewals_seen = renewals
        self._on_renewed(files)

    def _commit(self, jobs: list[Job[object, object]]) -> None:
        """Commit all jobs in one transaction; if that fails, each in its own."""
        try:
            self._check_before()
            self._connection.execute("BEGIN IMMEDIATE")
        # Locked by another program, or lost: fail all jobs instead of retrying each.
        except (sqlite3.Error, OSError) as error:
            self._fail(jobs, error)
            return
        try:
            for work, consecutive in groupby(jobs, key=attrgetter("work")):
                group = list(consecutive)
                results = work(self._connection, [job.piece for job in group])
                for job, result in zip(group, results, strict=True):
                    job.result = result
            self._connection.execute("COMMIT")
        # Whatever a job raises is passed to its future.
        except Exception as error:
            with suppress(sqlite3.Error):  # SQLite may have rolled back already.
                self._connection.execute("ROLLBACK")
            if len(jobs) == 1:
                self._fail(jobs, error)
                return
            for job in jobs:
                self._commit([job])
        else:
            self._check_after(jobs)

    def _check_before(self) -> None:
        """Costs no system call unless the last commit failed."""
        if self.damage is not None:
            raise self.damage
        if self.failing and self._files is not None:
            self._files.check()

    def _check_after(self, jobs: list[Job[object, object]]) -> None:
        """Fail the jobs if the files are not in place: a commit to a deleted file is lost when the
        process ends."""
        try:
            if self._files is not None:
                self._files.check()
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, FileLost):
                self._empty_log()
            self._fail(jobs, error)
        else:
            self.failing, self._lost = False, None
            self.failures.succeeded()

    def _empty_log(self) -> None:
        """Checkpoint the write-ahead log into its own database, wherever that is now. Otherwise the
        next start might apply the log to a file that has replaced the database, or miss it."""
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _fail(self, jobs: list[Job[object, object]], error: Exception) -> None:
        self.failing = True
        if is_damage(error):
            self.damage = error
        if is_damage(error) or isinstance(error, FileLost):
            self._lost = error
        if isinstance(
            error, sqlite3.Error | OSError
        ):  # Other errors are raised by the work itself.
            self.failures.failed(error, len(jobs))
        for job in jobs:
            job.error = error
