"""Sessions in this process's memory: the same promises, except that nothing outlives it."""

from __future__ import annotations

import time

from ....domain.errors import LeaseLost
from ....domain.ports import Clock, StoredSession, Transcript, Turn
from ....domain.sessions import SessionInfo, SessionKey, Summary, fitting
from ..common import HeldSteps, encode
from .catalog import MemoryCatalog
from .sessions import HeldSession


class MemoryStore(MemoryCatalog, HeldSteps):
    """A SessionStore and SessionCatalog for one process. What it holds grows with what is said,
    and goes on close. `steady` never jumps."""

    def __init__(self, *, steady: Clock = time.monotonic) -> None:
        MemoryCatalog.__init__(self)
        HeldSteps.__init__(self)
        self._steady = steady
        self._max_one_off_bytes: int | None = None
        self._one_off_bytes = 0

    async def open(self) -> None:
        self._is_open = True

    async def load(
        self, key: SessionKey, budget: int, *, result_chars: int | None = None
    ) -> StoredSession | None:
        self._require_open()
        session = self._sessions.get(key)
        if session is None:
            return None
        current = session.current
        count, summary = len(current.messages), current.summary
        messages = tuple(current.messages[0 if summary is None else summary.through :])
        tail = fitting(Transcript(messages, summary=summary), budget, len(messages), result_chars)
        return StoredSession(
            key=key,
            session_id=current.session_id,
            updated_at=session.updated_at,
            message_count=count,
            tail=tail,
            settings=session.settings,
        )

    async def put_summary(
        self,
        key: SessionKey,
        session_id: str,
        summary: Summary,
        *,
        run_id: str = "",
        attempt: int = 0,
    ) -> bool:
        self._require_open()
        if attempt:
            self.check_attempt(run_id, attempt)
            if self.has_turn(run_id):
                raise LeaseLost(f"The turn of run {run_id!r} is stored already.")
        session = self._sessions.get(key)
        if session is None or session.current.session_id != session_id:
            return False
        current = session.current
        before = 0 if current.summary is None else current.summary.through
        if not before < summary.through <= len(current.messages):
            return False
        current.summaries.append(summary)
        return True

    async def compact(
        self, key: SessionKey, keep: int, *, at: float, new_id: str
    ) -> tuple[SessionInfo, int] | None:
        before = await self.find(key)
        compacted = await super().compact(key, keep, at=at, new_id=new_id)
        if before is not None and compacted is not None:
            self.move_turns(key, before.session_id, compacted[0].session_id)
        return compacted

    async def branch(
        self, key: SessionKey, through: int, *, at: float, new_id: str
    ) -> SessionInfo | None:
        before = await self.find(key)
        branched = await super().branch(key, through, at=at, new_id=new_id)
        if before is not None and branched is not None:
            self.move_turns(key, before.session_id, branched.session_id)
        return branched

    async def append(self, turn: Turn) -> None:
        self._require_open()
        if turn.run_id in self._turns:
            return
        self.check_attempt(turn.run_id, turn.attempt)
        session = self._sessions.get(turn.key)
        if session is None:
            session = HeldSession(turn.key, turn.at, turn.at, turn.one_off)
        elif session.one_off:  # Of the one-off ones, the newest is the last.
            del self._sessions[turn.key]
        self._sessions[turn.key] = session
        self._turns[turn.run_id] = session.add(turn)
        self.close_turn(turn.run_id)
        if session.one_off:
            session.kept_from = self._steady()
            size = sum(len(encode(message)) for message in turn.messages)
            session.size += size
            self._one_off_bytes += size
        if turn.one_off:
            self._shrink()

    def has_turn(self, run_id: str) -> bool:
        return run_id in self._turns

    async def delete(self, key: SessionKey) -> bool:
        for turn in await self.open_turns():
            if turn.key == key:
                self.close_turn(turn.run_id)
        return await super().delete(key)

    async def prune_one_off(self, keep: float | None, max_bytes: int | None = None) -> int:
        self._require_open()
        self._max_one_off_bytes = max_bytes
        before = float("-inf") if keep is None else self._steady() - keep
        expired = [one.key for one in self._one_offs() if one.kept_from < before]
        return sum(map(self._forget, expired)) + self._shrink()

    def _one_offs(self) -> list[HeldSession]:
        """The oldest first."""
        return [session for session in self._sessions.values() if session.one_off]

    def _shrink(self) -> int:
        most = self._max_one_off_bytes
        if most is None or self._one_off_bytes <= most:
            return 0
        one_offs = self._one_offs()
        self._one_off_bytes = sum(session.size for session in one_offs)
        pruned = 0
        for session in one_offs:
            if self._one_off_bytes <= most:
                break
            self._one_off_bytes -= session.size
            pruned += self._forget(session.key)
        return pruned

    async def check_writable(self) -> None:
        self._require_open()

    async def check(self) -> None:
        self._require_open()

    async def close(self) -> None:
        self._is_open = False
        self._sessions.clear()
        self._turns.clear()
