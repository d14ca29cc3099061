"""A deadline that is cheap to move: on the path of every token, a timer for each would be dear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `ring` when `patience` seconds have passed since it was last wound.

    One timer serves any number of windings: when it fires too early, it is set again.
    """

    __slots__ = ("_due", "_loop", "_patience", "_ring", "_timer")

    def __init__(self, patience: float, ring: Callable[[], None]) -> None:
        self._patience = patience
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def wind(self) -> None:
        """From now on, count anew."""
        self._due = self._loop.time() + self._patience
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._fire)

    def rest(self) -> None:
        """Do not ring until wound again."""
        self._due = None

    def stop(self) -> None:
        """Let go of the timer."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._fire)
            return
        self._due = None
        self._ring()
