"""Which connections are subscribed to which Sessions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from .....domain.errors import InvalidRequest
from .....domain.sessions import SessionKey
from ..connection import Connection

MAX_SESSIONS = 2_000
"""Sessions that a connection may subscribe to by key; `sessions.subscribe` covers all of them."""


class Subscriptions:
    """An index of subscriptions by Session; a lookup costs only as much as it returns."""

    def __init__(self) -> None:
        self._by_session: dict[SessionKey, dict[Connection, None]] = {}
        self._of_all: dict[Connection, str | None] = {}

    def __bool__(self) -> bool:
        """Whether there is any subscription."""
        return bool(self._by_session or self._of_all)

    @contextmanager
    def reserved(self, connection: Connection, key: SessionKey) -> Iterator[None]:
        """Reserve a place for a subscription while a request that ends in `add` is in progress.

        `add` must not fail after a Run was started, so the limit is checked here, counting the
        other reservations. Raises InvalidRequest if the connection has too many subscriptions,
        unless it is also subscribed to all Sessions.
        """
        reserved_sessions = connection.reserved_sessions
        if self._is_full(connection, key) and not self._is_subscribed_to_all(connection, key):
            raise InvalidRequest(
                f"This connection is subscribed to {MAX_SESSIONS} sessions, which is the limit. "
                "Unsubscribe from some, or use sessions.subscribe for all sessions."
            )
        reserved_sessions[key] += 1
        try:
            yield
        finally:
            reserved_sessions[key] -= 1
            if not reserved_sessions[key]:
                del reserved_sessions[key]

    def _is_full(self, connection: Connection, key: SessionKey) -> bool:
        subscribed = connection.sessions
        if key in subscribed:
            return False
        others = sum(
            other not in subscribed and other != key for other in connection.reserved_sessions
        )
        return len(subscribed) + others >= MAX_SESSIONS

    def _is_subscribed_to_all(self, connection: Connection, key: SessionKey) -> bool:
        return self._of_all.get(connection, "") in (None, key.agent_id)

    def add(self, connection: Connection, key: SessionKey) -> None:
        """Subscribe a connection to a Session, within `reserved`. Does nothing at the limit, which
        only connections that are subscribed to all Sessions can reach here."""
        if self._is_full(connection, key):
            return
        connection.sessions.add(key)
        self._by_session.setdefault(key, {})[connection] = None

    def add_to_all(self, connection: Connection, agent_id: str | None) -> None:
        """Subscribe a connection to every Session, or every Session of an agent."""
        self._of_all[connection] = agent_id

    def remove(self, connection: Connection, key: SessionKey | None = None) -> None:
        """End the subscription to a Session; None: the one to all Sessions."""
        if key is None:
            self._of_all.pop(connection, None)
            return
        connection.sessions.discard(key)
        subscribed = self._by_session.get(key, {})
        subscribed.pop(connection, None)
        if not subscribed:
            self._by_session.pop(key, None)

    def forget(self, connection: Connection) -> None:
        """Remove a connection that has ended."""
        for key in tuple(connection.sessions):
            self.remove(connection, key)
        self.remove(connection)

    def of(self, key: SessionKey) -> Collection[Connection]:
        """The subscribers of a Session, each once."""
        subscribed = self._by_session.get(key, {})
        if not self._of_all:
            return tuple(subscribed)
        everywhere = (c for c, agent in self._of_all.items() if agent in (None, key.agent_id))
        return tuple(dict.fromkeys((*subscribed, *everywhere)))
