"""How a server that is to stop gets its clients to leave before it closes their connections.

Closing a connection that a client keeps for its next request races with that request, and a client
that gets no answer cannot know whether the request was carried out. So the server first answers for
a while as always, and says with each answer that the connection ends: ``Connection: close``, or
GOAWAY where the connection speaks HTTP/2. What has been idle for all that time is closed then.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from .pacing import within


class Kept(Protocol):
    """A connection, as far as it may wait for a request."""

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request."""
        ...

    def leave(self) -> None:
        """The server has begun to leave."""
        ...


class Leaving:
    """The connections of a server, and how far its end has come.

    `begun`: answers say that their connection ends. `ended`: idle connections are closed.
    """

    def __init__(self) -> None:
        self.begun = False
        self.ended = asyncio.Event()
        self._open: set[Kept] = set()
        self._fewer = asyncio.Event()
        """A connection has become busy or has ended, since the event was cleared."""

    def __len__(self) -> int:
        """How many connections wait for a request."""
        return sum(one.is_idle for one in self._open)

    def enter(self, connection: Kept) -> None:
        self._open.add(connection)

    def discard(self, connection: Kept) -> None:
        """The connection has ended. It may be unknown."""
        self._open.discard(connection)
        self._fewer.set()

    def not_idle(self) -> None:
        """A connection does not wait for a request any more."""
        self._fewer.set()

    def begin(self) -> None:
        """Say from now on that connections end. Idempotent."""
        if not self.begun:
            self.begun = True
            for connection in tuple(self._open):
                connection.leave()

    def end(self) -> None:
        """Have idle connections closed, now and later. Idempotent."""
        self.begin()
        self.ended.set()

    async def none_idle(self, seconds: float) -> None:
        """Return when no connection waits for a request, or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while len(self) and (left := deadline - loop.time()) > 0:
            self._fewer.clear()
            await within(self._fewer, left)
