"""Sessions in this process's memory: the same promises, except that nothing outlives it."""

from __future__ import annotations

from ...domain.history import newest_that_fit
from ...domain.ports import StoredSession, Transcript, Turn
from ...domain.sessions import SessionKey
from .memory_catalog import MemoryCatalog
from .memory_sessions import HeldSession


class MemoryStore(MemoryCatalog):
    """A SessionStore and SessionCatalog for one process. What it holds grows with what is said,
    and goes on close."""

    async def open(self) -> None:
        self._is_open = True

    async def load(self, key: SessionKey, budget: int) -> StoredSession | None:
        self._require_open()
        session = self._sessions.get(key)
        if session is None:
            return None
        current = session.current
        tail = newest_that_fit(current.messages, budget)
        count = len(current.messages)
        return StoredSession(
            key=key,
            session_id=current.session_id,
            updated_at=session.updated_at,
            message_count=count,
            tail=Transcript(tail, complete=len(tail) == count),
            settings=session.settings,
        )

    async def append(self, turn: Turn) -> None:
        self._require_open()
        if turn.run_id in self._turns:
            return
        fresh = HeldSession(turn.key, turn.at, turn.at, turn.one_off)
        self._sessions.setdefault(turn.key, fresh).add(turn)
        self._turns[turn.run_id] = turn

    async def prune_one_off(self, before: float) -> int:
        self._require_open()
        stale = [
            key
            for key, session in self._sessions.items()
            if session.one_off and session.updated_at < before
        ]
        return sum(map(self._forget, stale))

    async def check_writable(self) -> None:
        self._require_open()

    async def check(self) -> None:
        self._require_open()

    async def close(self) -> None:
        self._is_open = False
        self._sessions.clear()
        self._turns.clear()
