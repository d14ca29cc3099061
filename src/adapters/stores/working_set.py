"""The sessions in use, kept in memory as they are stored, so that a turn need not read them again.

A store that is its file's only user may answer from here: what was read, plus what was appended
since, is what it would read now.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ...domain.history import estimate_all, fitting
from ...domain.ports import StoredSession, Transcript, Turn
from ...domain.sessions import SessionKey

Put = Callable[[StoredSession | None, int], None]
"""Keeps what was read, and the budget that it was read with."""


_BYTES_PER_TOKEN = 6
_BYTES_PER_MESSAGE = 600
"""Roughly what a message takes in memory: its text, as it is and as a client encodes it."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A session whose tail holds at least the newest messages of `budget` tokens."""

    session: StoredSession
    budget: int

    @property
    def size(self) -> int:
        tail = self.session.tail
        return _BYTES_PER_TOKEN * (tail.tokens or 0) + _BYTES_PER_MESSAGE * len(tail.messages)


class WorkingSet:
    """About `limit` bytes at most; the session longest unused goes first.

    Only what was read is kept: a session of a stateless request, which nobody reads, never is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[SessionKey, _Known] = OrderedDict()
        self._size = 0
        self._reading: dict[SessionKey, object] = {}

    def get(self, key: SessionKey, budget: int) -> StoredSession | None:
        """The session as `load` would read it, where that is known."""
        known = self._known.get(key)
        if known is None:
            return None
        session = known.session
        if budget > known.budget and not session.tail.complete:
            return None
        self._known.move_to_end(key)
        return replace(session, tail=fitting(session.tail, budget, session.message_count))

    @contextmanager
    def reading(self, key: SessionKey) -> Iterator[Put]:
        """While the store reads a session: what is appended meanwhile spoils what it reads."""
        mark = self._reading[key] = object()

        def put(session: StoredSession | None, budget: int) -> None:
            if session is not None and self._reading.get(key) is mark:
                self._keep(_Known(session, budget))

        try:
            yield put
        finally:
            if self._reading.get(key) is mark:
                del self._reading[key]

    def appended(self, turn: Turn, stored: asyncio.Future[bool]) -> None:
        """A turn was written, or was not: `stored` tells."""
        self._reading.pop(turn.key, None)
        known = self._forget(turn.key)
        if stored.cancelled() or stored.exception() is not None or known is None:
            return  # What the file holds now is best read from there.
        session = known.session
        if not stored.result():
            self._keep(known)
        elif session.session_id == turn.session_id:
            self._keep(replace(known, session=_extended(session, turn)))

    def clear(self) -> None:
        self._known.clear()
        self._reading.clear()
        self._size = 0

    def _keep(self, known: _Known) -> None:
        self._forget(known.session.key)
        self._known[known.session.key] = known
        self._size += known.size
        while self._size > self._limit:
            self._forget(next(iter(self._known)))

    def _forget(self, key: SessionKey) -> _Known | None:
        known = self._known.pop(key, None)
        if known is not None:
            self._size -= known.size
        return known


def _extended(session: StoredSession, turn: Turn) -> StoredSession:
    tail = session.tail
    messages = (*tail.messages, *turn.messages)
    tokens = None if tail.tokens is None else tail.tokens + estimate_all(turn.messages)
    return replace(
        session,
        updated_at=turn.at,
        message_count=session.message_count + len(turn.messages),
        tail=Transcript(messages, tail.complete, tokens),
    )
