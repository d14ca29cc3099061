"""The sessions of stateless requests in SQLite: which are too old, and which are too much.

The pages that deleted sessions leave in the file are used again for new ones.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from .....domain.errors import StoreFailed
from .....domain.ports import Turn
from ...common import ExpiryClock, Stamp
from .insert_turns import append_turns

logger = logging.getLogger(__name__)

T = TypeVar("T")

_AT_ONCE = 100
"""Sessions deleted in one go, so that turns do not wait long behind a big clean-up."""

_PRUNE = """
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE one_off = 1 AND kept_from < ? ORDER BY kept_from LIMIT ?)"""
_NEWEST = """
    SELECT stamp, unix FROM expiry
    UNION ALL
    SELECT * FROM (
        SELECT kept_from, created_at FROM sessions WHERE one_off = 1
            AND kept_from BETWEEN -1e11 AND 1e11 AND created_at BETWEEN -1e11 AND 1e11
        ORDER BY kept_from DESC LIMIT 1)
    ORDER BY 1 DESC LIMIT 1"""
_BYTES = "SELECT coalesce(sum(size), 0) FROM sessions WHERE one_off = 1"
_OLDEST = "SELECT id, size FROM sessions WHERE one_off = 1 ORDER BY kept_from, id LIMIT ?"
_MOST_AT_ONCE = 16 * 1024 * 1024
"""Bytes that are deleted in one go, so that turns do not wait long behind it."""


class Do(Protocol):
    """Has work done with a connection. Raises StoreFailed."""

    def __call__(self, work: Callable[[sqlite3.Connection], T]) -> Coroutine[Any, Any, T]: ...


class OneOffs:
    """Keeps one-off sessions for a time, and within a number of bytes.

    `read` has something read, `prune` has sessions deleted.
    """

    def __init__(self, expiry: ExpiryClock, *, read: Do, prune: Do) -> None:
        self._expiry = expiry
        self._read = read
        self._prune = prune
        self._max_bytes: int | None = None
        self._bytes = 0
        self._shrinking: asyncio.Task[int] | None = None

    def append_turns(self, connection: sqlite3.Connection, turns: Sequence[Turn]) -> list[int]:
        """In the writer's thread: `sqlite_incoming.append_turns`, now."""
        return append_turns(connection, turns, self._expiry())

    def now(self) -> float:
        """The time from which a one-off session counts that is stored now."""
        return self._expiry()

    def count(self, stored: asyncio.Future[int]) -> None:
        """A one-off turn was stored, of so many bytes, or it was not."""
        most = self._max_bytes
        if most is None or stored.exception() is not None:
            return
        self._bytes += stored.result()
        if self._bytes > most and self._shrinking is None:
            self._shrinking = asyncio.create_task(self._shrink())
            self._shrinking.add_done_callback(self._shrunk)

    async def prune(self, keep: float | None, max_bytes: int | None) -> int:
        """SessionStore.prune_one_off."""
        self._max_bytes = max_bytes
        total = 0
        if keep is not None:
            self._expiry.count_away(keep / 2)
            await self._prune(partial(save_stamp, stamp=self._expiry.stamp()))
            before = self._expiry() - keep
            expired = partial(prune_expired, before=before, limit=_AT_ONCE)
            while pruned := await self._prune(expired):
                total += pruned
        return total + await self._shrink()

    async def close(self) -> None:
        """Wait for what is going on. The store refuses to begin anything more."""
        if self._shrinking is not None:
            await asyncio.wait([self._shrinking])

    async def _shrink(self) -> int:
        """Delete the oldest where all of them take too much: a little more than that, so that it
        is not done for every turn."""
        most, total = self._max_bytes, 0
        if most is None:
            return 0
        self._bytes = await self._read(one_off_bytes)
        excess = self._bytes - (most - most // 16) if self._bytes > most else 0
        while excess > 0:
            oldest = partial(prune_oldest, excess=excess, limit=_AT_ONCE)
            pruned, freed = await self._prune(oldest)
            if not pruned:
                break
            total, excess, self._bytes = total + pruned, excess - freed, self._bytes - freed
        return total

    def _shrunk(self, shrinking: asyncio.Task[int]) -> None:
        self._shrinking = None
        error = shrinking.exception()
        if error is not None and not isinstance(error, StoreFailed):  # That is logged already.
            logger.error("one-off sessions cannot be deleted", exc_info=error)


def newest_stamp(connection: sqlite3.Connection) -> Stamp | None:
    """The newest stamp that is kept. Raises sqlite3.Error, as all here."""
    row = connection.execute(_NEWEST).fetchone()
    return None if row is None else Stamp(*row)


def save_stamp(connection: sqlite3.Connection, stamp: Stamp) -> int:
    """Keep how the clock stands, so that time goes on over restarts also where nothing is kept.
    Returns how many sessions are deleted: none."""
    connection.execute("DELETE FROM expiry")
    connection.execute("INSERT INTO expiry VALUES (?, ?)", (stamp.expiry, stamp.unix))
    return 0


def one_off_bytes(connection: sqlite3.Connection) -> int:
    """How much the messages of all one-off sessions take."""
    (size,) = connection.execute(_BYTES).fetchone()
    return int(size)


def prune_expired(connection: sqlite3.Connection, before: float, limit: int) -> int:
    """Delete at most `limit` one-off sessions that began before that time; returns how many."""
    return connection.execute(_PRUNE, (before, limit)).rowcount


def prune_oldest(connection: sqlite3.Connection, excess: int, limit: int) -> tuple[int, int]:
    """Delete the oldest one-off sessions until `excess` bytes are free: at most `limit` of them.
    Returns how many, and their bytes."""
    pruned = freed = 0
    for session, size in connection.execute(_OLDEST, (limit,)).fetchall():
        if freed >= min(excess, _MOST_AT_ONCE):
            break
        connection.execute("DELETE FROM sessions WHERE id = ?", (session,))
        pruned, freed = pruned + 1, freed + size
    return pruned, freed
