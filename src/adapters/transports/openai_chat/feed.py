"""Frames of one run, made as its events come and taken as fast as the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from ....domain.errors import RunFailed
from ....domain.runs import TERMINAL, NumberedEvent
from ..http.alarm import Alarm
from ..http.exchange import Exchange, stop
from .sse import Frames

_MOST_WAITING = 256 * 1024
"""Bytes of frames that wait for the client. With more, the run's events wait in its log."""


class Feed:
    """Reads a run's events in a task of its own, so that silence can be told from the end.

    Whatever has gathered is taken at once: a client that lags gets fewer and larger pieces.
    `patience` is in seconds.
    """

    def __init__(
        self,
        events: AsyncGenerator[NumberedEvent],
        frames: Frames,
        exchange: Exchange,
        *,
        patience: float,
    ) -> None:
        self._events = events
        self._frames = frames
        self._exchange = exchange
        self._waiting: list[bytes] = []
        self._size = 0
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._silence = Alarm(patience, self._something.set)
        self._task = asyncio.create_task(self._fill())
        self._task.add_done_callback(lambda _: self._something.set())

    async def take(self) -> bytes | None:
        """The frames there are, or the next ones; empty at the end, None after `patience` seconds
        of silence. Raises, once all frames are taken, what the run's events ended with."""
        if not self._waiting and not self._task.done():
            self._something.clear()
            self._silence.wind()
            await self._something.wait()
            self._silence.rest()
        if not self._waiting:
            if not self._task.done():
                return None
            self._task.result()
            return b""
        taken = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._room.set()
        return taken

    async def stop(self) -> None:
        """Read no more."""
        self._silence.stop()
        await stop(self._task)

    async def _fill(self) -> None:
        async for numbered in self._events:
            self._exchange.note(numbered.event)
            frame = self._frames.of(numbered.event)
            if frame:
                self._waiting.append(frame)
                self._size += len(frame)
                self._something.set()
            if isinstance(numbered.event, TERMINAL):
                return
            while self._size > _MOST_WAITING:
                self._room.clear()
                await self._room.wait()
        raise RunFailed("The run ended without an end.")
