"""Which clients want to know of which Session."""

from __future__ import annotations

from collections.abc import Collection

from ....domain.errors import InvalidRequest
from ....domain.sessions import SessionKey
from .connection import Connection

MAX_SESSIONS = 2_000
"""Sessions that one client may ask to be told of by name; `sessions.subscribe` is for more."""


def check_room(connection: Connection, key: SessionKey) -> None:
    """Raises InvalidRequest where the client asks to be told of too many Sessions."""
    if key not in connection.sessions and len(connection.sessions) >= MAX_SESSIONS:
        raise InvalidRequest(
            f"This connection is told of {MAX_SESSIONS} sessions already; unsubscribe from some, "
            "or use sessions.subscribe for all."
        )


class Audiences:
    """An index, asked for every event: its cost does not grow with who is not concerned."""

    def __init__(self) -> None:
        self._by_session: dict[SessionKey, dict[Connection, None]] = {}
        self._of_all: dict[Connection, str | None] = {}

    def add(self, connection: Connection, key: SessionKey) -> None:
        """The client wants to know of a Session."""
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
