"""The sessions of stateless requests in PostgreSQL: which are too old, and which are too much.

Any number of processes do this at the same time: each skips the rows that another one deletes.
"""

from __future__ import annotations

import asyncio
import logging

from .....domain.errors import StoreFailed
from .....domain.ports import Clock
from ..database import Database
from .turns import one_value

logger = logging.getLogger(__name__)

_AT_ONCE = 100
"""Sessions deleted in one transaction, so that turns do not wait long behind a big clean-up."""
_MOST_AT_ONCE = 16 * 1024 * 1024
"""Bytes deleted in one transaction, for the same reason."""
_EXPIRED = """
    DELETE FROM sessions WHERE one_off AND id IN (
        SELECT id FROM sessions WHERE one_off
            AND kept_from < coalesce(%s::float8, extract(epoch FROM clock_timestamp())) - %s::float8
        ORDER BY kept_from LIMIT %s FOR UPDATE SKIP LOCKED)"""
_BYTES = "SELECT coalesce(sum(size), 0)::bigint FROM sessions WHERE one_off"
# Those before which less than the excess is freed.
_OLDEST = """
    WITH oldest AS (
        SELECT id, size, kept_from FROM sessions WHERE one_off
        ORDER BY kept_from, id LIMIT %s FOR UPDATE SKIP LOCKED
    ), freed AS (
        DELETE FROM sessions WHERE one_off AND id IN (
            SELECT id FROM (
                SELECT id, sum(size) OVER (ORDER BY kept_from, id) - size AS before FROM oldest
            ) AS sized WHERE before < %s)
        RETURNING size
    )
    SELECT count(*), coalesce(sum(size), 0)::bigint FROM freed"""


class OneOffs:
    """Keeps one-off sessions for a time, and within a number of bytes.

    `clock`: in place of the database's, whose time is that of all processes.
    """

    def __init__(self, database: Database, clock: Clock | None) -> None:
        self._database = database
        self._clock = clock
        self._max_bytes: int | None = None
        self._bytes = 0
        self._shrinking: asyncio.Task[int] | None = None

    def now(self) -> float | None:
        """The time from which a session counts that is stored now; None: that of the database."""
        return None if self._clock is None else self._clock()

    def count(self, size: int) -> None:
        """A one-off turn of so many bytes was stored by this process."""
        most = self._max_bytes
        if most is None:
            return
        self._bytes += size
        if self._bytes > most and self._shrinking is None:
            self._shrinking = asyncio.create_task(self._shrink())
            self._shrinking.add_done_callback(self._shrunk)

    async def prune(self, keep: float | None, max_bytes: int | None) -> int:
        """SessionStore.prune_one_off."""
        self._max_bytes = max_bytes
        total = 0
        if keep is not None:
            while pruned := await self._database.execute(_EXPIRED, (self.now(), keep, _AT_ONCE)):
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
        self._bytes = one_value(await self._database.row(_BYTES))
        excess = self._bytes - (most - most // 16) if self._bytes > most else 0
        while excess > 0:
            oldest = (_AT_ONCE, min(excess, _MOST_AT_ONCE))
            row = await self._database.change_row(_OLDEST, oldest)
            pruned, freed = row or (0, 0)
            if not pruned:
                break
            total, excess, self._bytes = total + pruned, excess - freed, self._bytes - freed
        return total

    def _shrunk(self, shrinking: asyncio.Task[int]) -> None:
        self._shrinking = None
        error = shrinking.exception()
        if error is not None and not isinstance(error, StoreFailed):  # That is logged already.
            logger.error("one-off sessions cannot be deleted", exc_info=error)
