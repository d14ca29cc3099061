"""Which sessions a principal may see that is restricted to agents, and how it gets one."""

from __future__ import annotations

import asyncio

from ..access import Action, Principal, Resource, may, require
from ..errors import Forbidden
from ..ports import Clock, NewId, SessionCatalog
from ..sessions import OWNER, SessionInfo, SessionKey


def session_resource(info: SessionInfo) -> Resource:
    """A session as a resource: without a recorded owner it is the operators'."""
    return Resource(info.key.agent_id, str(info.settings.get(OWNER, "")))


def namespace_of(principal: Principal) -> str:
    """The namespace of the session keys that are made from the names in a principal's requests:
    equal names of two principals do not meet. The operators share one, which is empty."""
    return "" if principal.agents is None else principal.id


async def sees_session(principal: Principal, key: SessionKey, catalog: SessionCatalog) -> bool:
    """Whether the principal may see the session; reads nothing for an unrestricted principal."""
    if principal.agents is None:
        return may(principal, Action.SEE_SESSION)
    info = await catalog.find(key)
    return info is not None and may(principal, Action.SEE_SESSION, session_resource(info))


class SessionClaims:
    """Records the owner of a session that a restricted principal starts."""

    def __init__(self, catalog: SessionCatalog, clock: Clock, new_id: NewId) -> None:
        self._catalog = catalog
        self._clock = clock
        self._new_id = new_id
        # Two principals at once would both find the key free.
        self._claiming = asyncio.Lock()

    async def claim(self, principal: Principal, key: SessionKey) -> None:
        """Make sure that a restricted principal owns the session. Raises Forbidden."""
        if principal.agents is None:
            return
        async with self._claiming:
            info = await self._catalog.find(key)
            if info is None:
                require(principal, Action.START_RUN, Resource(key.agent_id))
                owner: dict[str, str | bool | int | None] = {OWNER: principal.id}
                at, new_id = self._clock(), self._new_id()
                await self._catalog.patch(key, owner, at=at, new_id=new_id)
            elif not may(principal, Action.START_RUN, session_resource(info)):
                raise Forbidden(f"The session {key} belongs to another principal; choose another.")
