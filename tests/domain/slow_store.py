"""A store whose every step takes a while, as that of a file does, and a session_service over it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from opensoul.adapters.persistence.memory.store import MemoryStore
from opensoul.domain.access import ALL_SCOPES, Principal
from opensoul.domain.execution import Compactor, ModelRouter
from opensoul.domain.models import Cooldowns
from opensoul.domain.ports import StoredSession, Turn
from opensoul.domain.services.sessions import SessionService
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.records import SessionInfo
from tests.domain.rig import Rig
from tests.fakes.domain import Gate

ADMIN = Principal("somebody", ALL_SCOPES, "token")
TALK = SessionKey("main", "talk")


class SlowStore(MemoryStore):
    """Reads show what was there when they began; writes count when they end. Each method waits at
    its gate where it has one, else for `rounds` rounds of the event loop."""

    def __init__(self, rounds: int = 0) -> None:
        super().__init__()
        self.rounds = rounds
        self.gates: dict[str, Gate] = {}
        self.loads = 0

    async def load(
        self, key: SessionKey, budget: int, *, result_chars: int | None = None
    ) -> StoredSession | None:
        self.loads += 1
        session = await super().load(key, budget, result_chars=result_chars)
        await self._take_a_while("load")
        return session

    async def append(self, turn: Turn) -> None:
        await self._take_a_while("append")
        await super().append(turn)

    async def find(self, key: SessionKey) -> SessionInfo | None:
        info = await super().find(key)
        await self._take_a_while("find")
        return info

    async def patch(
        self,
        key: SessionKey,
        changes: Mapping[str, str | bool | int | None],
        *,
        at: float,
        new_id: str,
    ) -> SessionInfo:
        await self._take_a_while("patch")
        return await super().patch(key, changes, at=at, new_id=new_id)

    async def reset(self, key: SessionKey, *, at: float, new_id: str) -> SessionInfo:
        await self._take_a_while("reset")
        return await super().reset(key, at=at, new_id=new_id)

    async def compact(
        self, key: SessionKey, keep: int, *, at: float, new_id: str
    ) -> tuple[SessionInfo, int] | None:
        await self._take_a_while("compact")
        return await super().compact(key, keep, at=at, new_id=new_id)

    async def delete(self, key: SessionKey) -> bool:
        await self._take_a_while("delete")
        return await super().delete(key)

    async def _take_a_while(self, method: str) -> None:
        gate = self.gates.get(method)
        if gate is not None:
            await gate.pass_through()
        for _ in range(self.rounds):
            await asyncio.sleep(0)


@dataclass
class SlowOffice(Rig):
    """An executor and a session_service over one SlowStore."""

    slow: SlowStore = field(default_factory=SlowStore)

    def __post_init__(self) -> None:
        self.store = self.slow  # type: ignore[assignment]
        super().__post_init__()
        self.session_service = SessionService(
            settings=lambda: self.settings,
            store=self.slow,
            catalog=self.slow,
            queue=self.queue,
            compactor=Compactor(
                ModelRouter(clients={}, cooldowns=Cooldowns(self.clock)), clock=self.clock
            ),
            clock=self.clock,
            new_id=self.new_id,
        )

    async def texts(self, session_id: str | None = None) -> list[str]:
        """What is said in a transcript of the Session, the current one by default."""
        kept = await self.slow.messages(TALK, limit=1_000, session_id=session_id)
        return [message.message.text for message in kept]
