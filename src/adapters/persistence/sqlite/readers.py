"""A pool of reading threads, each with its own connection, so that reads never block the event
loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ....domain.concurrency import FairThreads
from ....domain.errors import StoreFailed
from ..common import FailureLog, Undecodable
from .files import DatabaseFiles
from .integrity import is_damage
from .schema import open_reader

T = TypeVar("T")


class Readers:
    """At most `count` concurrent reads; each sees all writes that have returned before it.

    `name` of the store, for messages. `files` are checked before a connection is opened, because
    the path may refer to another database. `on_damage` is called in the event loop when a read
    finds the database damaged.
    """

    def __init__(
        self,
        path: Path,
        count: int,
        name: str = "session store",
        *,
        files: DatabaseFiles | None = None,
        on_damage: Callable[[], None] = lambda: None,
    ) -> None:
        self._files = files
        self._on_damage = on_damage
        self._path = path
        self._name = name
        self._idle: list[sqlite3.Connection] = []
        self._failures = FailureLog(f"the {name} cannot be read")
        self._threads = FairThreads(count, thread_name_prefix=f"{name} reader")

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a thread and return its result. Raises StoreFailed."""
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._threads, self._with_connection, work)
        except (OSError, sqlite3.Error, Undecodable) as error:
            self._failures.failed(error)
            if is_damage(error):
                self._on_damage()
            raise StoreFailed(f"The {self._name} cannot be read: {error}.") from error
        self._failures.succeeded()
        return result

    def close(self) -> None:
        """Wait for reads in progress, then close the connections. Blocks."""
        self._threads.shutdown()
        for connection in self._idle:
            connection.close()

    def _with_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        idle = self._idle
        connection = idle.pop() if idle else self._open()
        try:
            return work(connection)
        finally:
            if idle is self._idle:
                idle.append(connection)
            else:
                connection.close()

    def renew(self, files: DatabaseFiles) -> None:
        """Switch to a new database at the same path."""
        outdated, self._idle, self._files = self._idle, [], files
        while outdated:
            outdated.pop().close()

    def _open(self) -> sqlite3.Connection:
        if self._files is not None:
            self._files.check()
        return open_reader(self._path)
