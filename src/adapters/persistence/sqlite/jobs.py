"""Work for a thread that writes, and its outcome for the event loop that waits for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ....domain.errors import StoreFailed

A = TypeVar("A")
T = TypeVar("T")

Together = Callable[[sqlite3.Connection, Sequence[A]], Sequence[T]]
"""What does many pieces of work at once, and tells the outcome of each."""


class Job(Generic[A, T]):
    """What to do inside a transaction, and whom to tell."""

    __slots__ = ("_future", "_name", "error", "outcome", "piece", "renewal", "together")

    def __init__(
        self,
        name: str,
        together: Together[A, T],
        piece: A,
        future: asyncio.Future[T],
        renewal: int,
    ) -> None:
        self._name = name
        self.renewal = renewal
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
            case (sqlite3.Error() | OSError()) as error:
                failed = StoreFailed(f"The {self._name} cannot be written: {error}.")
                failed.__cause__ = error
                self._future.set_exception(failed)
            case StopIteration():  # A future refuses it, and the jobs behind would never settle.
                self._future.set_exception(RuntimeError(f"the work raised {self.error!r}"))
            case error:
                self._future.set_exception(error)


def each(
    connection: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], T]]
) -> list[T]:
    """Together: pieces of work that have nothing in common."""
    return [work(connection) for work in works]


def settle_all(jobs: list[Job[object, object]]) -> None:
    for job in jobs:
        job.settle()
        job.error = None  # Its traceback refers to the job, and both would keep what was written.
