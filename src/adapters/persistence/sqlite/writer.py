"""One thread that writes for everybody: whatever waits is committed together, with one fsync."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from ....domain.errors import StoreFailed
from ..common import FailureLog
from .files import DatabaseFiles, FileLost
from .integrity import Damaged, is_damage
from .jobs import Job, Together, each, settle_all
from .schema import close_database

logger = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

_GATHERING = 0.0007
"""Seconds that jobs wait for others, where others are likely: a commit costs the same for many."""
MAX_GROUP = 128
"""Jobs in one transaction at most, so that the first of them does not wait for all."""


Renew = Callable[[Exception], tuple[sqlite3.Connection, DatabaseFiles] | None]
"""Opens a new database in the place of one that was damaged or lost; None: not now. Called in the
writer's thread. Raises StoreFailed."""


class GroupWriter:
    """Owns the writing connection. Made in the event loop whose tasks it serves.

    `name` is what people call the store. `files`: what is committed counts only where they are
    still in place afterwards. `renew`: a database that is damaged or lost is replaced; what was
    submitted before `on_renewed` was called (in the event loop) fails, since it was made for the
    old one.
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
        """Of the connection, known in the writer's thread at once."""
        self._renewals_seen = 0
        """The same in the event loop, once `on_renewed` was called."""
        self._lost: Exception | None = None
        self.failures = FailureLog(f"the {name} cannot be written")
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job[object, object] | None] = SimpleQueue()
        self._stopping = False
        self._several = False
        """The last commit was of more than one job, so that others are likely to come."""
        self._closed = False
        self.failing = False
        """The last job could not be committed, so that there is reason to doubt the next."""
        self.damage: Exception | None = None
        """What showed that the database is damaged: nothing is written to it any more."""
        # A daemon: a process that dies without close() is not kept alive by an idle thread.
        self._thread = Thread(target=self._run, name=f"{name} writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Have `work` done in a transaction; the future resolves once that is on the disk.

        `work` may run again after a failed attempt that left no trace. The future raises
        StoreFailed for an error of the database, and anything else that `work` raises.
        """
        return self.submit_with_others(each, work)

    def submit_with_others(self, together: Together[A, T], piece: A) -> asyncio.Future[T]:
        """The same for work that is done in one go with what else was submitted for `together`,
        and waits beside it."""
        if self._closed:
            raise StoreFailed(f"The {self._name} is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        job = Job(self._name, together, piece, future, self._renewals_seen)
        self._jobs.put(job)  # type: ignore[arg-type]  # the future knows its type
        return future

    async def close(self) -> None:
        """Commit what was submitted, then close the database. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._stopping:
            self._write()
        with suppress(sqlite3.Error):  # No room to tidy up in: the log stays, and is durable.
            close_database(self._connection)

    def _write(self) -> None:
        """Wait for jobs, and do them. A function of its own, so that no job, and no turn in it, is
        kept while this thread waits for the next."""
        jobs = self._take()
        self._several = len(jobs) > 1
        try:
            self._work(jobs)
        # The outermost edge of this thread: without it every later write would wait for ever.
        except Exception as error:
            logger.exception("the writer failed unexpectedly", extra={"store": self._name})
            with suppress(sqlite3.Error):
                self._connection.rollback()
            self._fail(jobs, error)
        with suppress(RuntimeError):  # The loop was closed: nobody waits any more.
            self._loop.call_soon_threadsafe(settle_all, jobs)

    def _take(self) -> list[Job[object, object]]:
        """Wait for a job, then take all that wait. None is the last thing ever queued."""
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
            self._begin_anew(self._renew, self._lost)

    def _without_outdated(self, jobs: list[Job[object, object]]) -> list[Job[object, object]]:
        """The jobs that are for this database; the others fail."""
        fresh = [job for job in jobs if job.renewal == self._renewals]
        if len(fresh) < len(jobs):
            for job in jobs:
                if job.renewal != self._renewals:
                    job.error = Damaged("it was damaged or lost, and begins anew")
        return fresh

    def _begin_anew(self, renew: Renew, lost: Exception) -> None:
        """Where that fails, the next job fails too, and it is tried again."""
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
        with suppress(RuntimeError):  # The loop was closed.
            self._loop.call_soon_threadsafe(self._see_renewal, self._renewals, self._files)

    def _see_renewal(self, renewals: int, files: DatabaseFiles) -> None:
        self._renewals_seen = renewals
        self._on_renewed(files)

    def _commit(self, jobs: list[Job[object, object]]) -> None:
        """All jobs together; where that fails each on its own, so that one cannot spoil others."""
        try:
            self._check_before()
            self._connection.execute("BEGIN IMMEDIATE")
        # Locked by someone outside, or lost: found out once, not per job.
        except (sqlite3.Error, OSError) as error:
            self._fail(jobs, error)
            return
        try:
            for together, some in groupby(jobs, key=attrgetter("together")):
                beside = list(some)
                outcomes = together(self._connection, [job.piece for job in beside])
                for job, outcome in zip(beside, outcomes, strict=True):
                    job.outcome = outcome
            self._connection.execute("COMMIT")
        # The edge of this thread: whatever a job raises belongs to who submitted it.
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
        """Costs nothing while all is well."""
        if self.damage is not None:
            raise self.damage
        if self.failing and self._files is not None:
            self._files.check()

    def _check_after(self, jobs: list[Job[object, object]]) -> None:
        """What was committed to a file that has lost its name is gone with the process."""
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
        """Put the write-ahead log into the database that it belongs to, wherever that is now. Else
        the next start may apply it to the file that has taken its place, or miss it."""
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _fail(self, jobs: list[Job[object, object]], error: Exception) -> None:
        self.failing = True
        if is_damage(error):
            self.damage = error
        if is_damage(error) or isinstance(error, FileLost):
            self._lost = error
        if isinstance(error, sqlite3.Error | OSError):  # Anything else is a fault of the work.
            self.failures.failed(error, len(jobs))
        for job in jobs:
            job.error = error
