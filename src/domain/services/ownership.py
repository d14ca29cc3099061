"""Which sessions a principal may see that is restricted to agents, and how it gets one."""

from __future__ import annotations

import asyncio

from ..access import Action, Principal, Resource, key_principal, may, require
from ..errors import Forbidden, UnknownSession
from ..ports import Clock, NewId, SessionCatalog
from ..sessions import (
    NAMESPACE,
    OWNER,
    SessionInfo,
    SessionKey,
    in_namespace,
    key_id_in,
    with_namespace,
)


def session_resource(info: SessionInfo) -> Resource:
    """A session as a resource. Without a recorded owner it belongs to the API key in whose
    namespace it is, or else to the operators."""
    owner = info.settings.get(OWNER)
    if owner is None:
        key_id = key_id_in(info.key)
        owner = "" if key_id is None else key_principal(key_id)
    return Resource(info.key.agent_id, str(owner))


def namespace_of(principal: Principal) -> str:
    """The namespace of the session keys that are made from the names in a principal's requests:
    equal names of two principals do not meet. The operators share one, which is empty. So is that
    of an API key, all of whose keys are in a namespace: see `own_key`."""
    return "" if principal.agents is None or principal.key_id else principal.id


async def sees_session(principal: Principal, key: SessionKey, catalog: SessionCatalog) -> bool:
    """Whether the principal may see the session; reads nothing for an unrestricted principal."""
    if principal.agents is None:
        return may(principal, Action.SEE_SESSION)
    info = await catalog.find(key)
    return info is not None and may(principal, Action.SEE_SESSION, session_resource(info))


def own_key(key: SessionKey, principal: Principal) -> SessionKey:
    """The key in the namespace of the principal's API key, so that equal keys of different API keys
    never meet. An administrator's has none. Raises UnknownSession for another one's namespace."""
    if not principal.key_id or principal.agents is None:
        return key
    if key.rest.startswith(NAMESPACE) and not in_namespace(key, principal.key_id):
        raise UnknownSession(f"session not found: {key}")
    return with_namespace(key, principal.key_id)


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
                # In another process somebody else may have been first.
                info = await self._catalog.patch(key, owner, at=at, new_id=new_id)
            if not may(principal, Action.START_RUN, session_resource(info)):
                raise Forbidden(f"The session {key} belongs to another principal; choose another.")
