"""Stands in where a session store cannot tell what it holds: it serves runs all the same."""

from __future__ import annotations

from collections.abc import Mapping

from ....domain.errors import Unavailable
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

_WHY = "This session store keeps no catalog, so its sessions cannot be looked after."


class NoCatalog:
    """A SessionCatalog of nothing. What would change something raises Unavailable."""

    async def turn(self, run_id: str) -> Turn | None:
        return None

    async def span(self, run_id: str) -> Span | None:
        return None

    async def list(self, query: SessionQuery) -> SessionPage:
        return SessionPage((), 0)

    async def find(self, key: SessionKey) -> SessionInfo | None:
        return None

    async def find_by_id(self, session_id: str) -> tuple[SessionInfo, ...]:
        return ()

    async def patch(
        self,
        key: SessionKey,
        changes: Mapping[str, str | bool | int | None],
        *,
        at: float,
        new_id: str,
    ) -> SessionInfo:
        raise Unavailable(_WHY)

    async def reset(self, key: SessionKey, *, at: float, new_id: str) -> SessionInfo:
        raise Unavailable(_WHY)

    async def compact(
        self, key: SessionKey, keep: int, *, at: float, new_id: str
    ) -> tuple[SessionInfo, int] | None:
        raise Unavailable(_WHY)

    async def branch(
        self, key: SessionKey, through: int, *, at: float, new_id: str
    ) -> SessionInfo | None:
        raise Unavailable(_WHY)

    async def delete(self, key: SessionKey) -> bool:
        raise Unavailable(_WHY)

    async def messages(
        self,
        key: SessionKey,
        *,
        limit: int,
        before: int | None = None,
        session_id: str | None = None,
    ) -> tuple[KeptMessage, ...]:
        return ()

    async def messages_since_pause(self, key: SessionKey, seconds: float) -> int:
        raise Unavailable(_WHY)

    async def transcripts(self, key: SessionKey, limit: int) -> tuple[KeptTranscript, ...]:
        return ()

    async def usage(self, query: UsageQuery) -> tuple[PeriodUsage, ...]:
        return ()
