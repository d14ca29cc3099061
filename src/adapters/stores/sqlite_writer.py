"""One thread that writes for everybody: whatever waits is committed together, with one fsync."""

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

from ...domain.errors import StoreFailed
from .sqlite_schema import close_database

logger = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

_GATHERING = 0.0007
"""Seconds that jobs wait for others, where others are likely: a commit costs the same for many."""
_MAX_GROUP = 128
"""Jobs in one transaction at most, so that the first of them does not wait for all."""


Together = Callable[[sqlite3.Connection, Sequence[A]], Sequence[T]]
"""What does many pieces of work at once, and tells the outcome of each."""


class _Job(Generic[A, T]):
    """What to do inside a transaction, and whom to tell."""

    __slots__ = ("_future", "_name", "error", "outcome", "piece", "together")

    def __init__(
        self, name: str, together: Together[A, T], piece: A, future: asyncio.Future[T]
    ) -> None:
        self._name = name
        self._future = future
        self.together = together
        self.piece = piece
        self.outcome: T
        self.error: Exception | None = None

    def settle(self) -> None:
        """In the event loop. Who stopped waiting is not told; the work is done all the same."""
        if self._future.done():
            return
        match self.error:
            case None:
                self._future.set_result(self.outcome)
            case sqlite3.Error() as error:
                failed = StoreFailed(f"The {self._name} cannot be written: {error}.")
                failed.__cause__ = error
                self._future.set_exception(failed)
            case StopIteration():  # A future refuses it, and the jobs behind would never settle.
                self._future.set_exception(RuntimeError(f"the work raised {self.error!r}"))
            case error:
                self._future.set_exception(error)


class GroupWriter:
    """Owns the writing connection. Made in the event loop whose tasks it serves.

    `name` is what people call the store.
    """

    def __init__(self, connection: sqlite3.Connection, name: str = "session store") -> None:
        self._name = name
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job[object, object] | None] = SimpleQueue()
        self._stopping = False
        self._several = False
        """The last commit was of more than one job, so that others are likely to come."""
        self._closed = False
        self.failing = False
        """The last job could not be committed, so that there is reason to doubt the next."""
        # A daemon: a process that dies without close() is not kept alive by an idle thread.
        self._thread = Thread(target=self._run, name=f"{name} writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Have `work` done in a transaction; the future resolves once that is on the disk.

        `work` may run again after a failed attempt that left no trace. The future raises
        StoreFailed for an error of the database, and anything else that `work` raises.
        """
        return self.submit_with_others(_each, work)

    def submit_with_others(self, together: Together[A, T], piece: A) -> asyncio.Future[T]:
        """The same for work that is done in one go with what else was submitted for `together`,
        and waits beside it."""
        if self._closed:
            raise StoreFailed(f"The {self._name} is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        job = _Job(self._name, together, piece, future)
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
            jobs = self._take()
            self._several = len(jobs) > 1
            try:
                self._commit(jobs)
            # The outermost edge of this thread: without it every later write would wait for ever.
            except Exception as error:
                logger.exception("the writer failed unexpectedly", extra={"store": self._name})
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                self._fail(jobs, error)
            with suppress(RuntimeError):  # The loop was closed: nobody waits any more.
                self._loop.call_soon_threadsafe(_settle, jobs)
        with suppress(sqlite3.Error):  # No room to tidy up in: the log stays, and is durable.
            close_database(self._connection)

    def _take(self) -> list[_Job[object, object]]:
        """Wait for a job, then take all that wait. None is the last thing ever queued."""
        jobs = []
        job = self._jobs.get()
        if self._several:
            time.sleep(_GATHERING)
        with suppress(Empty):
            while job is not None:
                jobs.append(job)
                if len(jobs) == _MAX_GROUP:
                    return jobs
                job = self._jobs.get_nowait()
            self._stopping = True
        return jobs

    def _commit(self, jobs: list[_Job[object, object]]) -> None:
        """All jobs together; where that fails each on its own, so that one cannot spoil others."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:  # Locked by someone outside: waited for once, not per job.
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
            self.failing = False

    def _fail(self, jobs: list[_Job[object, object]], error: Exception) -> None:
        self.failing = True
        for job in jobs:
            job.error = error


def _each(
    connection: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], T]]
) -> list[T]:
    return [work(connection) for work in works]


def _settle(jobs: list[_Job[object, object]]) -> None:
    for job in jobs:
        job.settle()
