"""The catalog of Sessions in this process's memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from ....domain.errors import StoreFailed
from ....domain.messages import Role
from ....domain.models import Usage
from ....domain.ports import Turn
from ....domain.sessions import (
    KeptMessage,
    KeptTranscript,
    PeriodUsage,
    SessionInfo,
    SessionKey,
    SessionPage,
    SessionQuery,
    Span,
    UsageQuery,
)
from ..common import found
from .sessions import HeldSession, HeldTranscript

Changes = Mapping[str, str | bool | int | None]


class MemoryCatalog:
    """A SessionCatalog of what the MemoryStore holds. Whoever changes something about a one-off
    session has made it a lasting one."""

    def __init__(self) -> None:
        self._sessions: dict[SessionKey, HeldSession] = {}
        self._turns: dict[str, Turn] = {}
        self._is_open = False

    async def turn(self, run_id: str) -> Turn | None:
        self._require_open()
        turn = self._turns.get(run_id)
        return turn and replace(turn, one_off=self._sessions[turn.key].one_off)

    async def span(self, run_id: str) -> Span | None:
        self._require_open()
        turn = self._turns.get(run_id)
        place = turn and self._sessions[turn.key].named(turn.session_id)
        if not place:
            return None
        through = max((one.number for one in place.kept if one.run_id == run_id), default=0)
        return Span(place.session_id, 0, through) if through else None

    async def list(self, query: SessionQuery) -> SessionPage:
        self._require_open()
        # Of the same age, the one that was begun last is the newer.
        meant = [session for session in reversed(self._sessions.values()) if _means(query, session)]
        meant.sort(key=lambda session: session.updated_at, reverse=True)
        start = max(0, query.offset)
        page = meant[start : start + max(0, query.limit)]
        return SessionPage(tuple(session.info() for session in page), len(meant))

    async def find(self, key: SessionKey) -> SessionInfo | None:
        self._require_open()
        session = self._sessions.get(key)
        return None if session is None else session.info()

    async def find_by_id(self, session_id: str) -> tuple[SessionInfo, ...]:
        page = await self.list(SessionQuery(limit=len(self._sessions)))
        return tuple(info for info in page.sessions if info.session_id == session_id)

    async def patch(
        self, key: SessionKey, changes: Changes, *, at: float, new_id: str
    ) -> SessionInfo:
        self._require_open()
        session = self._sessions.get(key) or self._begin(key, at, new_id)
        merged = {**session.settings, **changes}
        session.settings = {name: value for name, value in merged.items() if value is not None}
        session.one_off = False
        return session.info()

    async def reset(self, key: SessionKey, *, at: float, new_id: str) -> SessionInfo:
        self._require_open()
        session = self._sessions.get(key)
        if session is None:
            return self._begin(key, at, new_id).info()
        self._renew(session, at, new_id)
        return session.info()

    async def compact(
        self, key: SessionKey, keep: int, *, at: float, new_id: str
    ) -> tuple[SessionInfo, int] | None:
        self._require_open()
        session = self._sessions.get(key)
        if session is None:
            return None
        kept = session.current.kept[max(0, len(session.current.kept) - max(0, keep)) :]
        while kept and kept[0].message.role is not Role.USER:
            kept = kept[1:]
        if len(kept) < len(session.current.kept):
            self._renew(session, at, new_id).copy(kept)
        return session.info(), len(kept)

    async def branch(
        self, key: SessionKey, through: int, *, at: float, new_id: str
    ) -> SessionInfo | None:
        self._require_open()
        session = self._sessions.get(key)
        if session is None:
            return None
        session.branch(through, new_id, at)
        session.updated_at, session.one_off = at, False
        return session.info()

    async def delete(self, key: SessionKey) -> bool:
        self._require_open()
        return self._forget(key)

    async def messages(
        self,
        key: SessionKey,
        *,
        limit: int,
        before: int | None = None,
        session_id: str | None = None,
    ) -> tuple[KeptMessage, ...]:
        self._require_open()
        session = self._sessions.get(key)
        if session is None:
            return ()
        transcript = session.current if session_id is None else session.named(session_id)
        kept = () if transcript is None else transcript.kept
        end = len(kept) if before is None else min(len(kept), max(0, before - 1))
        return tuple(kept[max(0, end - max(0, limit)) : end])

    async def messages_since_pause(self, key: SessionKey, seconds: float) -> int:
        self._require_open()
        session = self._sessions.get(key)
        kept = [] if session is None else session.current.kept
        for i in range(len(kept) - 1, 0, -1):
            if kept[i].at - kept[i - 1].at >= seconds:
                return len(kept) - i
        return len(kept)

    async def transcripts(self, key: SessionKey, limit: int) -> tuple[KeptTranscript, ...]:
        self._require_open()
        session = self._sessions.get(key)
        newest = [] if session is None else session.transcripts[::-1]
        return tuple(transcript.record() for transcript in newest[: max(0, limit)])

    async def usage(self, query: UsageQuery) -> tuple[PeriodUsage, ...]:
        self._require_open()
        bounds = query.bounds
        turns: dict[tuple[int, str, str], list[Turn]] = defaultdict(list)
        for turn in self._turns.values():
            meant = query.agent_id in (None, turn.key.agent_id) and query.key in (None, turn.key)
            if meant and bounds[0] <= turn.at < bounds[-1]:
                period = bisect_right(bounds, turn.at) - 1
                turns[period, turn.key.agent_id, turn.model].append(turn)
        return tuple(_summed(*found, turns[found]) for found in sorted(turns))

    def _begin(self, key: SessionKey, at: float, session_id: str) -> HeldSession:
        session = self._sessions[key] = HeldSession(key, at, at)
        session.begin(session_id, at)
        return session

    def _renew(self, session: HeldSession, at: float, session_id: str) -> HeldTranscript:
        session.updated_at, session.one_off = at, False
        return session.begin(session_id, at)

    def _forget(self, key: SessionKey) -> bool:
        session = self._sessions.pop(key, None)
        for run_id in () if session is None else session.run_ids:
            del self._turns[run_id]
        return session is not None

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreFailed("The session store is not open.")


def _means(query: SessionQuery, session: HeldSession) -> bool:
    asked = (
        (query.agent_id, session.key.agent_id),
        (query.label, session.settings.get("label")),
        (query.spawned_by, session.settings.get("spawnedBy")),
    )
    if any(wanted is not None and wanted != value for wanted, value in asked):
        return False
    if query.updated_after is not None and session.updated_at <= query.updated_after:
        return False
    label = session.settings.get("label")
    texts = (str(session.key), session.current.session_id, label if isinstance(label, str) else "")
    return query.search is None or found(query.search, *texts)


def _summed(period: int, agent_id: str, model: str, turns: list[Turn]) -> PeriodUsage:
    usages = [turn.usage or Usage(0, 0) for turn in turns]
    return PeriodUsage(
        period=period,
        agent_id=agent_id,
        model=model,
        turns=len(turns),
        messages=sum(len(turn.messages) for turn in turns),
        input=sum(usage.input for usage in usages),
        output=sum(usage.output for usage in usages),
        cached=sum(usage.cached for usage in usages),
        first=min(turn.at for turn in turns),
        last=max(turn.at for turn in turns),
    )
