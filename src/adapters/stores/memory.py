"""Sessions in this process's memory: the same promises, except that nothing outlives it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...domain.errors import StoreFailed
from ...domain.history import newest_that_fit
from ...domain.messages import Message
from ...domain.ports import StoredSession, Transcript, Turn
from ...domain.sessions import SessionKey


@dataclass(slots=True)
class _Transcript:
    session_id: str
    messages: list[Message] = field(default_factory=list)


@dataclass(slots=True)
class _Session:
    one_off: bool
    updated_at: float
    transcripts: list[_Transcript] = field(default_factory=list)
    """The newest, which is the current one, is the last."""
    run_ids: list[str] = field(default_factory=list)


class MemoryStore:
    """A SessionStore for one process. What it holds grows with what is said, and goes on close."""

    def __init__(self) -> None:
        self._sessions: dict[SessionKey, _Session] = {}
        self._run_ids: set[str] = set()
        self._is_open = False

    async def open(self) -> None:
        self._is_open = True

    async def load(self, key: SessionKey, budget: int) -> StoredSession | None:
        self._require_open()
        session = self._sessions.get(key)
        if session is None:
            return None
        current = session.transcripts[-1]
        tail = newest_that_fit(current.messages, budget)
        count = len(current.messages)
        return StoredSession(
            key=key,
            session_id=current.session_id,
            updated_at=session.updated_at,
            message_count=count,
            tail=Transcript(tail, complete=len(tail) == count),
        )

    async def append(self, turn: Turn) -> None:
        self._require_open()
        if turn.run_id in self._run_ids:
            return
        session = self._sessions.setdefault(turn.key, _Session(turn.one_off, turn.at))
        session.updated_at = turn.at
        # Who comes back to a one-off session by its key has made it a lasting one.
        session.one_off = session.one_off and turn.one_off
        if not session.transcripts or session.transcripts[-1].session_id != turn.session_id:
            session.transcripts.append(_Transcript(turn.session_id))
        session.transcripts[-1].messages.extend(turn.messages)
        session.run_ids.append(turn.run_id)
        self._run_ids.add(turn.run_id)

    async def prune_one_off(self, before: float) -> int:
        self._require_open()
        stale = [
            key
            for key, session in self._sessions.items()
            if session.one_off and session.updated_at < before
        ]
        for key in stale:
            self._run_ids.difference_update(self._sessions.pop(key).run_ids)
        return len(stale)

    async def check(self) -> None:
        self._require_open()

    async def close(self) -> None:
        self._is_open = False
        self._sessions.clear()
        self._run_ids.clear()

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreFailed("The session store is not open.")
