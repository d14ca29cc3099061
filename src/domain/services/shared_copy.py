"""A process's copy of records that all nodes of a Gateway share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context

from ..errors import StoreFailed
from ..ports import NodeBus

logger = logging.getLogger(__name__)

RENEWAL_SECONDS = 5.0
"""Seconds between two looks for changes of which no message came."""


class SharedCopy:
    """Calls `renew` when another node has changed the records, or may have.

    `name` is the topic of the messages. Without a `bus`, or without other nodes, nothing is called.
    """

    def __init__(
        self, bus: NodeBus | None, name: str, renew: Callable[[], Awaitable[object]]
    ) -> None:
        self._bus = bus
        self._name = name
        self._renew = renew
        self._is_old = False
        self._renewing: asyncio.Task[None] | None = None
        self._ends: list[Callable[[], None]] = []
        self._next: asyncio.Task[None] | None = None
        """Of those who wait in `renewed`; it has not begun to renew."""
        self._alone = asyncio.Lock()

    @property
    def shared(self) -> bool:
        """Whether other nodes can change the records."""
        return self._bus is not None and self._bus.shared

    def open(self) -> None:
        """Listen for changes from now on."""
        if self._bus is not None and not self._ends:
            self._ends = [
                self._bus.subscribe(self._name, lambda _: self._renew_soon()),
                self._bus.on_gap(self._renew_soon),
            ]

    def changed(self) -> None:
        """Have the other nodes renew their copies: this one has stored a change."""
        if self._bus is not None:
            self._bus.publish(self._name)

    async def renewed(self) -> None:
        """Renew the copy. Callers at the same time share one renewal, which begins after each of
        them has called, so that a database that does not answer delays none of them for long.
        Raises StoreFailed."""
        if self._next is None:
            self._next = asyncio.create_task(self._renew_next(), context=Context())
            self._next.add_done_callback(_retrieve)
        await asyncio.shield(self._next)

    async def _renew_next(self) -> None:
        async with self._alone:
            self._next = None
            await self._renew()

    async def close(self) -> None:
        """Listen no more, and wait for a renewal in progress."""
        ends, self._ends = self._ends, []
        for end in ends:
            end()
        if self._renewing is not None:
            await asyncio.wait((self._renewing,))

    def _renew_soon(self) -> None:
        self._is_old = True
        if self._renewing is None:
            # In a context of its own: it does not keep the one of a request.
            self._renewing = asyncio.create_task(self._renew_all(), context=Context())

    async def _renew_all(self) -> None:
        try:
            while self._is_old and self._ends:
                self._is_old = False
                await self._renew()
        except StoreFailed as error:  # The next message or look renews the copy.
            extra = {"records": self._name, "reason": error.message}
            logger.warning("changes of other nodes were not read", extra=extra)
        finally:
            self._renewing = None


def _retrieve(renewal: asyncio.Task[None]) -> None:
    """All who waited for it may have left."""
    if not renewal.cancelled():
        renewal.exception()
