"""Lists the clients of all processes of a Gateway in each of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from .....domain.errors import GatewayError
from .....domain.ports import NodeBus, PresenceBook
from .presence import Presence

logger = logging.getLogger(__name__)

_TOPIC: Final = "presence"
_SECONDS: Final = 1.0
"""Between two writes, and between two reads."""


class SharedPresence:
    """Stores the clients of this process, and reads those of the others, after each change but at
    most once a second; and with each call of `beat`, before what was stored expires.

    `changed` is called when other processes have changed the list.
    """

    def __init__(
        self, bus: NodeBus, book: PresenceBook, presence: Presence, changed: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._book = book
        self._presence = presence
        self._changed = changed
        self._open = False
        self._writing = _Paced(self._write)
        self._reading = _Paced(self._read)
        presence.on_change(self._write_soon)
        bus.subscribe(_TOPIC, self._read_soon)
        bus.on_gap(self._read_soon)

    async def open(self) -> None:
        """Begin to list this process's clients for others."""
        self._open = True
        await self.beat()

    async def beat(self) -> None:
        """Store and read now."""
        if self._open:
            await _tried(self._write)
            await _tried(self._read)

    async def close(self) -> None:
        """The clients of this process have disconnected."""
        self._open = False
        await self._writing.stop()
        await self._reading.stop()
        await _tried(self._book.remove)
        self._bus.publish(_TOPIC)

    def _write_soon(self) -> None:
        if self._open:
            self._writing.request()

    def _read_soon(self, _: str = "") -> None:
        if self._open:
            self._reading.request()

    async def _write(self) -> None:
        await self._book.put(json.dumps(self._presence.clients()))
        self._bus.publish(_TOPIC)

    async def _read(self) -> None:
        others = await self._book.others()
        if self._presence.set_others([json.loads(clients) for clients in others]):
            self._changed()


class _Paced:
    """Does some work after each request, soon, and at most once in `_SECONDS`."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._requested = False

    def request(self) -> None:
        self._requested = True
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while self._requested:
            self._requested = False
            await _tried(self._work)
            await asyncio.sleep(_SECONDS)
        self._task = None


async def _tried(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except GatewayError as error:
        extra = {"reason": error.message}
        logger.warning("the clients of all nodes could not be listed", extra=extra)
