"""Limits on frames and pieces of a body, and waiting with a timeout; shared by all protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TURN = 32
"""Frames or pieces that are handled before the task suspends for other connections."""


class FrameBudget:
    """A token bucket: full at first, refilled at `rate` tokens a second up to `burst`."""

    __slots__ = ("_burst", "_left", "_now", "_rate", "_since")

    def __init__(self, burst: float, rate: float, now: Callable[[], float]) -> None:
        self._burst = burst
        self._rate = rate
        self._now = now
        self._left = burst
        self._since = now()

    def take(self, tokens: float = 1.0) -> bool:
        """Spend tokens; False if there are not enough."""
        if self._left < tokens:
            now = self._now()
            self._left = min(self._burst, self._left + (now - self._since) * self._rate)
            self._since = now
        self._left -= tokens
        return self._left >= 0

    def give(self, tokens: float) -> None:
        """Add tokens, up to the burst, for frames that a peer sends in response to ours."""
        self._left = min(self._burst, self._left + tokens)


class Turns:
    """Suspends the calling task once every `TURN` steps.

    Reading bytes that are buffered already does not suspend, so a peer that sends faster than it is
    served would occupy the event loop.
    """

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps = 0

    async def step(self) -> None:
        """Count one frame or piece."""
        self._steps += 1
        if self._steps >= TURN:
            self._steps = 0
            await asyncio.sleep(0)


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set in that time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def first_of(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
