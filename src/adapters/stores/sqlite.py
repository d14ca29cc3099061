"""Sessions in one SQLite file: durable, read without waiting for writers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...domain.errors import StoreFailed
from ...domain.ports import StoredSession, Turn
from ...domain.sessions import SessionKey
from .sqlite_readers import Readers
from .sqlite_schema import open_database
from .sqlite_turns import append_turn, load_session, prune_batch, touch
from .sqlite_writer import GroupWriter
from .working_set import WorkingSet

_PRUNED_AT_ONCE = 100
"""Sessions deleted in one go, so that turns do not wait long behind a big clean-up."""


@dataclass(frozen=True, slots=True)
class _Opened:
    writer: GroupWriter
    readers: Readers
    identity: tuple[int, int]


class SqliteStore:
    """A SessionStore. The caller makes sure that no other process uses the file.

    `check_timeout`: seconds after which `check` calls the store stuck. `working_set`: about
    how many bytes of sessions in use are kept in memory.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        readers: int = 2,
        check_timeout: float = 5.0,
        working_set: int = 64 * 1024 * 1024,
    ) -> None:
        self._working_set = WorkingSet(working_set)
        self._path = Path(path).absolute()  # `:memory:` would not be a file to SQLite.
        self._reader_count = readers
        self._check_timeout = check_timeout
        self._opened: _Opened | None = None

    async def open(self) -> None:
        """Raises StoreFailed naming the file when it is damaged, not ours, or too new."""
        connection = await asyncio.to_thread(open_database, self._path)
        readers = Readers(self._path, self._reader_count)
        self._opened = _Opened(GroupWriter(connection), readers, _identity(self._path))

    async def load(self, key: SessionKey, budget: int) -> StoredSession | None:
        opened = self._require()
        known = self._working_set.get(key, budget)
        if known is not None:
            return known
        with self._working_set.reading(key) as put:
            session = await opened.readers.run(partial(load_session, key=key, budget=budget))
            put(session, budget)
        return session

    async def append(self, turn: Turn) -> None:
        """A caller that is cancelled while it waits has its turn stored all the same."""
        stored = self._require().writer.submit(partial(append_turn, turn=turn))
        # Told by the future itself, since who waits for it may be cancelled.
        stored.add_done_callback(partial(self._working_set.appended, turn))
        await asyncio.shield(stored)

    async def prune_one_off(self, before: float) -> int:
        writer, total = self._require().writer, 0
        batch = partial(prune_batch, before=before, limit=_PRUNED_AT_ONCE)
        while pruned := await writer.submit(batch):
            total += pruned
            self._working_set.clear()
        return total

    async def check(self) -> None:
        """Read, and take the write lock; after a failed write, write for real.

        An ordinary check thus costs no fsync. Raises StoreFailed, also when the file at the path
        is not the one that was opened: what is written to a deleted file is lost.
        """
        opened = self._require()
        try:
            async with asyncio.timeout(self._check_timeout):
                await opened.readers.run(partial(_probe, self._path, opened.identity))
                await opened.writer.submit(touch if opened.writer.failing else _nothing)
        except TimeoutError as error:
            raise StoreFailed(
                f"The session store did not answer within {self._check_timeout:g} s."
            ) from error

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            self._working_set.clear()
            await asyncio.to_thread(opened.readers.close)
            await opened.writer.close()

    def _require(self) -> _Opened:
        if self._opened is None:
            raise StoreFailed("The session store is not open.")
        return self._opened


def _probe(path: Path, identity: tuple[int, int], connection: sqlite3.Connection) -> None:
    if _identity(path) != identity:
        raise FileNotFoundError("its file was replaced while it was in use")
    connection.execute("SELECT 1 FROM sessions LIMIT 1").fetchone()


def _identity(path: Path) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino


def _nothing(connection: sqlite3.Connection) -> None:
    """To be committed: taking the write lock is the probe."""
