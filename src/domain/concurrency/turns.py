"""Work that is done once for each turn of the event loop."""

from __future__ import annotations

import asyncio


class ThisTurn:
    """Whether something was done in this turn of the event loop.

    Everything that a turn handles arrived before the turn began. What is looked up once in a turn
    is therefore as new as the newest of these requests.
    """

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def mark(self) -> None:
        """It is done until the turn ends. Without an event loop nothing changes."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self.done = True
        loop.call_soon(self._end)

    def _end(self) -> None:
        self.done = False
