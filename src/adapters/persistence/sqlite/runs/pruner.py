"""Forgets Runs that ended long ago, a few at a time, oldest first."""

from __future__ import annotations

import asyncio
import math
from functools import partial

from .....domain.ports import Clock
from ..writer import GroupWriter
from .writes import prune_runs

_AT_ONCE = 100
"""Runs forgotten in one go."""
_EVERY = 60.0
"""Seconds between two looks at what has become old."""


class Pruner:
    """Keeps Runs for `keep_seconds` after their end, which `expiry` counts, and about `max_bytes`
    of events over all.

    Where events take more, those of the Runs that ended first are deleted; the Runs themselves
    stay known for their time. `size` is what the file holds already.
    """

    def __init__(
        self,
        writer: GroupWriter,
        expiry: Clock,
        *,
        keep_seconds: float,
        max_bytes: int,
        size: int,
    ) -> None:
        self._writer = writer
        self._expiry = expiry
        self._keep_seconds = keep_seconds
        self._max_bytes = max_bytes
        self._size = size
        self._looked_at = -math.inf
        self._pruning: asyncio.Future[tuple[int, int]] | None = None
        self._closed = False

    def add(self, size: int) -> None:
        """A Run has ended and keeps that many bytes of events."""
        self._size += size
        self.prune()

    def prune(self) -> None:
        """Begin to prune where there may be something to prune."""
        now = self._expiry()
        due = self._size > self._max_bytes or now - self._looked_at >= _EVERY
        if due and self._pruning is None and not self._closed:
            self._looked_at = now
            self._prune_some()

    def begin_anew(self) -> None:
        """The file is another one, and empty."""
        self._size = 0

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True

    def _prune_some(self) -> None:
        excess = max(0, self._size - self._max_bytes)
        before = self._expiry() - self._keep_seconds
        work = partial(prune_runs, before=before, excess=excess, limit=_AT_ONCE)
        self._pruning = self._writer.submit(work)
        self._pruning.add_done_callback(self._pruned)

    def _pruned(self, pruning: asyncio.Future[tuple[int, int]]) -> None:
        self._pruning = None
        if pruning.exception() is not None:
            return  # The writer has logged it; it is tried again in a while.
        pruned, freed = pruning.result()
        self._size -= freed
        if pruned and not self._closed:
            self._prune_some()
