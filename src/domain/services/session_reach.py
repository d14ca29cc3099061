"""Which sessions the tools of a run reach: those of its principal, as far as its agent may see."""

from __future__ import annotations

from dataclasses import dataclass

from ..access import Action, Principal, may
from ..agents import SessionAccess, Visibility
from ..errors import UnknownSession
from ..ports import SessionCatalog
from ..sessions import OWNER, SessionInfo, SessionKey, SessionQuery, parse_key
from .ownership import session_resource

_MOST_LISTED = 1_000
_MOST_EXAMINED = 100_000
"""Sessions that are looked through for those of a restricted principal."""
_MOST_NESTED = 16


@dataclass(frozen=True, slots=True)
class SessionReach:
    """The sessions that a run of the session `own` reaches, on behalf of its principal.

    Unlike a client, an agent never reaches the sessions of another principal, whatever its own
    principal may see: a person did not choose each of the calls.
    """

    principal: Principal
    own: SessionKey
    access: SessionAccess
    catalog: SessionCatalog

    async def find(self, text: str) -> SessionInfo:
        """The session of a key. Raises SessionKeyInvalid, UnknownSession."""
        key, _ = parse_key(text, default_agent=self.own.agent_id, allow_reserved=True)
        info = await self.catalog.find(key)
        if info is None or not await self.includes(info):
            raise UnknownSession(f"No session found: {key}. {self._hint()}")
        return info

    async def labelled(self, label: str) -> SessionInfo:
        """The session with a label. Raises UnknownSession, also where several have it."""
        page = await self.catalog.list(SessionQuery(label=label, limit=_MOST_LISTED))
        found = [info for info in page.sessions if await self.includes(info)]
        if not found:
            raise UnknownSession(f"No session found with label: {label}. {self._hint()}")
        if len(found) > 1:
            keys = ", ".join(str(info.key) for info in found)
            raise UnknownSession(f"Multiple sessions found with label: {label} ({keys})")
        return found[0]

    async def list(self, *, updated_after: float | None = None) -> tuple[SessionInfo, ...]:
        """The newest sessions, newest first; archived ones are left out."""
        found: dict[SessionKey, SessionInfo] = {}
        if (own := await self.catalog.find(self.own)) is not None:
            found[own.key] = own
        if self.access.visibility is not Visibility.SELF:
            await self._add_children(found)
        if self.access.visibility in (Visibility.AGENT, Visibility.ALL):
            only = self.own.agent_id if self.access.visibility is Visibility.AGENT else None
            most = _MOST_LISTED if self.principal.agents is None else _MOST_EXAMINED
            query = SessionQuery(agent_id=only, updated_after=updated_after, limit=most)
            for info in (await self.catalog.list(query)).sessions:
                if info.key not in found and await self.includes(info):
                    found[info.key] = info
        since = updated_after or 0.0
        kept = [info for info in found.values() if info.updated_at >= since]
        kept.sort(key=lambda info: info.updated_at, reverse=True)
        return tuple(info for info in kept if info.settings.get("archived") is not True)

    async def includes(self, info: SessionInfo) -> bool:
        """Whether the session is one of these."""
        if info.key == self.own:
            return True
        if info.one_off or not self._is_permitted(info):
            return False  # One that was made for a single request is for that request alone.
        match self.access.visibility:
            case Visibility.SELF:
                return False
            case Visibility.TREE:
                return await self.is_descendant(info)
            case Visibility.AGENT:
                return info.key.agent_id == self.own.agent_id or await self.is_descendant(info)
            case Visibility.ALL:
                mine, other = self.own.agent_id, info.key.agent_id
                return (
                    mine == other
                    or self.access.connects(mine, other)
                    or await self.is_descendant(info)
                )

    async def is_descendant(self, info: SessionInfo) -> bool:
        """Whether the session is that of a sub-agent of the own one, or of its sub-agents."""
        parent = info.settings.get("spawnedBy")
        for _ in range(_MOST_NESTED):
            if not isinstance(parent, str):
                return False
            if parent == str(self.own):
                return True
            key, _ = parse_key(parent, default_agent=self.own.agent_id, allow_reserved=True)
            between = await self.catalog.find(key)
            parent = None if between is None else between.settings.get("spawnedBy")
        return False

    async def _add_children(self, found: dict[SessionKey, SessionInfo]) -> None:
        parents = [str(self.own)]
        while parents and len(found) < _MOST_LISTED:
            query = SessionQuery(spawned_by=parents.pop(), limit=_MOST_LISTED)
            for info in (await self.catalog.list(query)).sessions:
                if info.key not in found and self._is_permitted(info):
                    found[info.key] = info
                    parents.append(str(info.key))

    def _is_permitted(self, info: SessionInfo) -> bool:
        owner = info.settings.get(OWNER, "")
        permitted = may(self.principal, Action.SEE_SESSION, session_resource(info))
        return permitted and owner in ("", self.principal.id)

    def _hint(self) -> str:
        return f"tools.sessions.visibility is {self.access.visibility.value!r} here."
