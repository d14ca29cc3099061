"""The events of a connection, for who reads them one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType

from .errors import ClientError, ReaderTooSlow
from .frames import Event

MAX_UNREAD = 10_000
"""Events that may wait for their reader."""


class Events:
    """Reads events, those of some names or all, from the moment it is made until it is closed.

    It goes on over reconnections. Iterating raises ReaderTooSlow when events had to be dropped,
    and what ended the client for good; after `close` it ends.
    """

    def __init__(self, names: frozenset[str], leave: Callable[[Events], None]) -> None:
        self._names = names
        self._leave = leave
        self._waiting: deque[Event] = deque()
        self._end: ClientError | None = None
        self._closed = False
        self._news = asyncio.Event()

    def put(self, event: Event) -> None:
        """Pass on an event, if it is one of those."""
        if self._names and event.name not in self._names:
            return
        if len(self._waiting) >= MAX_UNREAD:
            self.fail(ReaderTooSlow(f"{MAX_UNREAD} events wait to be read."))
            return
        self._waiting.append(event)
        self._news.set()

    def fail(self, error: ClientError) -> None:
        """End it, after what waits."""
        self._end = self._end or error
        self._news.set()

    def close(self) -> None:
        """Be told of nothing more."""
        self._closed = True
        self._leave(self)
        self._news.set()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
