"""Which clients want to know of which Session."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from .....domain.errors import InvalidRequest
from .....domain.sessions import SessionKey
from ..connection import Connection

MAX_SESSIONS = 2_000
"""Sessions that one client may ask to be told of by name; `sessions.subscribe` is for more."""


class Audiences:
    """An index, asked for every event: its cost does not grow with who is not concerned."""

    def __init__(self) -> None:
        self._by_session: dict[SessionKey, dict[Connection, None]] = {}
        self._of_all: dict[Connection, str | None] = {}

    @contextmanager
    def room(self, connection: Connection, key: SessionKey) -> Iterator[None]:
        """Keep room for a Session until the client is added to it, or is not.

        Raises InvalidRequest where the client is subscribed to too many, unless it is subscribed to
        all of them besides.
        """
        entering = connection.entering
        if self._is_full(connection, key) and not self._is_told_of_all(connection, key):
            raise InvalidRequest(
                f"This connection is told of {MAX_SESSIONS} sessions already; unsubscribe from "
                "some, or use sessions.subscribe for all."
            )
        entering[key] += 1
        try:
            yield
        finally:
            entering[key] -= 1
            if not entering[key]:
                del entering[key]

    def _is_full(self, connection: Connection, key: SessionKey) -> bool:
        there = connection.sessions
        if key in there:
            return False
        others = sum(other not in there and other != key for other in connection.entering)
        return len(there) + others >= MAX_SESSIONS

    def _is_told_of_all(self, connection: Connection, key: SessionKey) -> bool:
        return self._of_all.get(connection, "") in (None, key.agent_id)

    def add(self, connection: Connection, key: SessionKey) -> None:
        """The client wants to know of a Session; within `room`. A full client that is subscribed to
        all Sessions is told by that alone."""
        if self._is_full(connection, key):
            return
        connection.sessions.add(key)
        self._by_session.setdefault(key, {})[connection] = None

    def add_to_all(self, connection: Connection, agent_id: str | None) -> None:
        """The client wants to know of every Session, or of every Session of an agent."""
        self._of_all[connection] = agent_id

    def remove(self, connection: Connection, key: SessionKey | None) -> None:
        """The client no longer wants to know of a Session; None: of every Session."""
        if key is None:
            self._of_all.pop(connection, None)
            return
        connection.sessions.discard(key)
        there = self._by_session.get(key, {})
        there.pop(connection, None)
        if not there:
            self._by_session.pop(key, None)

    def forget(self, connection: Connection) -> None:
        """The client has gone."""
        for key in tuple(connection.sessions):
            self.remove(connection, key)
        self.remove(connection, None)

    def of(self, key: SessionKey) -> Collection[Connection]:
        """Who wants to know of a Session, each once."""
        there = self._by_session.get(key, {})
        if not self._of_all:
            return tuple(there)
        everywhere = (c for c, agent in self._of_all.items() if agent in (None, key.agent_id))
        return tuple(dict.fromkeys((*there, *everywhere)))
