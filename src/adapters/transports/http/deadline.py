"""A deadline that is cheap to move: on the path of every token, a timer for each would be dear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context


class ReusableDeadline:
    """Calls `expired` when `patience` seconds have passed since it was last armed.

    One timer serves any number of calls of `arm`: when it fires too early, it is set again. The
    timer has an empty context: asyncio keeps a cancelled timer until its time has come, and with
    it the context, which would be that of the request and refer to its body.
    """

    __slots__ = ("_due", "_expired", "_loop", "_patience", "_timer")

    def __init__(self, patience: float, expired: Callable[[], None]) -> None:
        self._patience = patience
        self._expired: Callable[[], None] | None = expired
        self._loop = asyncio.get_running_loop()
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Start counting anew."""
        self._due = self._loop.time() + self._patience
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._fire, context=Context())

    def disarm(self) -> None:
        """Stop counting until the next `arm`."""
        self._due = None

    def stop(self) -> None:
        """Release the timer and the callback, which mostly refers to the owner of this object."""
        self._due = self._expired = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._due is None or self._expired is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._fire, context=Context())
            return
        self._due = None
        self._expired()
