"""A buffered reader of the events of a client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .errors import ClientError, ReaderTooSlow
from .frames import Event

MAX_UNREAD = 10_000
"""Unread events that a reader buffers at most."""


class Events:
    """Iterates over the events with certain names (empty: all), across reconnections.

    After the buffered events, iteration raises ReaderTooSlow if events were dropped, or the error
    that ended the client. It stops after `close`.
    """

    def __init__(self, names: frozenset[str], on_close: Callable[[Events], None]) -> None:
        self._names = names
        self._on_close = on_close
        self._unread: deque[Event] = deque()
        self._error: ClientError | None = None
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, event: Event) -> None:
        if self._names and event.name not in self._names:
            return
        if len(self._unread) >= MAX_UNREAD:
            self.fail(ReaderTooSlow(f"The reader has {MAX_UNREAD} unread events."))
            return
        self._unread.append(event)
        self._changed.set()

    def fail(self, error: ClientError) -> None:
        """Raise `error` after the buffered events. The first error is kept."""
        self._error = self._error or error
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._on_close(self)
        self._changed.set()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        return self._unread.popleft()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
