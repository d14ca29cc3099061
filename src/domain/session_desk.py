"""Looking after Sessions: listing, reading, settings, starting over, deleting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from .auth import Principal, Scope, authorize
from .errors import InvalidRequest, SessionBusy, UnknownSession
from .messages import Role, text_message
from .ports import Clock, CurrentSettings, NewId, RunDispatcher, SessionCatalog, SessionStore, Turn
from .session_records import (
    KeptMessage,
    KeptTranscript,
    PeriodUsage,
    SessionInfo,
    SessionPage,
    SessionQuery,
    UsageQuery,
)
from .session_settings import HARMLESS, Setting, checked
from .sessions import MAIN, SessionKey

_PATIENCE = 15.0
"""Seconds that the runs of a session get to stop before it is changed under them."""

OnChange = Callable[[SessionKey, str], None]
"""Is told of a Session and what was done to it: patched, reset, deleted, compacted, injected."""


class SessionDesk:
    """Every method takes a Principal and checks its scope; keys are canonical."""

    def __init__(
        self,
        *,
        settings: CurrentSettings,
        store: SessionStore,
        catalog: SessionCatalog,
        dispatcher: RunDispatcher,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._clock = clock
        self._new_id = new_id
        self._on_change: list[OnChange] = []
        self._labelling = asyncio.Lock()

    def on_change(self, told: OnChange) -> Callable[[], None]:
        """Have `told` called after each change; what is returned ends that."""
        self._on_change.append(told)
        return lambda: self._on_change.remove(told)

    async def list(self, principal: Principal, query: SessionQuery) -> SessionPage:
        authorize(principal, Scope.SESSIONS_READ)
        return await self._catalog.list(query)

    async def find(self, principal: Principal, key: SessionKey) -> SessionInfo | None:
        authorize(principal, Scope.SESSIONS_READ)
        return await self._catalog.find(key)

    async def with_id(self, principal: Principal, session_id: str) -> tuple[SessionInfo, ...]:
        """The Sessions whose current transcript has that id."""
        authorize(principal, Scope.SESSIONS_READ)
        return await self._catalog.find_by_id(session_id)

    async def messages(
        self,
        principal: Principal,
        key: SessionKey,
        *,
        limit: int,
        before: int | None = None,
        session_id: str | None = None,
    ) -> tuple[KeptMessage, ...]:
        """The newest messages, at most `limit` of those numbered below `before`, oldest first."""
        authorize(principal, Scope.SESSIONS_READ)
        return await self._catalog.messages(key, limit=limit, before=before, session_id=session_id)

    async def transcripts(
        self, principal: Principal, key: SessionKey, limit: int
    ) -> tuple[KeptTranscript, ...]:
        authorize(principal, Scope.SESSIONS_READ)
        return await self._catalog.transcripts(key, limit)

    async def turn(self, principal: Principal, run_id: str) -> Turn | None:
        """What a Run stored."""
        authorize(principal, Scope.SESSIONS_READ)
        return await self._catalog.turn(run_id)

    async def usage(self, principal: Principal, query: UsageQuery) -> tuple[PeriodUsage, ...]:
        """Tokens by period, agent and model."""
        authorize(principal, Scope.READ)
        return await self._catalog.usage(query)

    async def patch(
        self, principal: Principal, key: SessionKey, asked: Mapping[str, Setting]
    ) -> SessionInfo:
        """Change a Session's settings; one that is not there yet begins.

        Raises Forbidden (operator.admin for what is not harmless), InvalidRequest.
        """
        authorize(principal, Scope.WRITE if HARMLESS.issuperset(asked) else Scope.ADMIN)
        settings = self._settings()
        settings.agents.find(key.agent_id, param="key")
        changes = checked(key, asked, settings.models)
        # Two at once would both find a label free.
        async with self._labelling:
            await self._refuse_conflicts(key, changes)
            info = await self._catalog.patch(key, changes, at=self._clock(), new_id=self._new_id())
        self._tell(key, "patched")
        return info

    async def reset(self, principal: Principal, key: SessionKey) -> SessionInfo:
        """Stop what goes on in the Session and start a new, empty transcript; settings stay."""
        authorize(principal, Scope.ADMIN)
        self._settings().agents.find(key.agent_id, param="key")
        await self._quiet(key, "The session was reset.")
        info = await self._catalog.reset(key, at=self._clock(), new_id=self._new_id())
        self._tell(key, "reset")
        return info

    async def delete(self, principal: Principal, key: SessionKey) -> bool:
        """Stop what goes on in the Session and forget it. Raises InvalidRequest for a main one."""
        authorize(principal, Scope.ADMIN)
        if key.rest == MAIN:
            raise InvalidRequest(f"Cannot delete the main session ({key}).", param="key")
        await self._quiet(key, "The session was deleted.")
        deleted = await self._catalog.delete(key)
        if deleted:
            self._tell(key, "deleted")
        return deleted

    async def compact(
        self, principal: Principal, key: SessionKey, keep: int
    ) -> tuple[SessionInfo, int]:
        """Go on with at most the `keep` newest messages; the whole transcript is kept as an
        earlier one. Raises UnknownSession, SessionBusy while a run works in it."""
        authorize(principal, Scope.ADMIN)
        if self._dispatcher.live(key):
            raise SessionBusy(f"The session {key} has a run; compact it when that has ended.")
        compacted = await self._catalog.compact(key, keep, at=self._clock(), new_id=self._new_id())
        if compacted is None:
            raise UnknownSession(f"session not found: {key}")
        self._tell(key, "compacted")
        return compacted

    async def inject(
        self, principal: Principal, key: SessionKey, text: str
    ) -> tuple[SessionInfo, str]:
        """Put a message of the assistant's into the Session; tells its id too.

        Raises UnknownSession.
        """
        authorize(principal, Scope.ADMIN)
        info = await self._catalog.find(key)
        if info is None:
            raise UnknownSession(f"session not found: {key}")
        message_id = f"inject-{self._new_id()}"
        await self._store.append(
            Turn(
                key=key,
                session_id=info.session_id,
                run_id=message_id,
                at=self._clock(),
                messages=(text_message(Role.ASSISTANT, text),),
                model=info.model,
            )
        )
        self._tell(key, "injected")
        return info, message_id

    async def _refuse_conflicts(self, key: SessionKey, changes: Mapping[str, Setting]) -> None:
        label = changes.get("label")
        if isinstance(label, str):
            page = await self._catalog.list(SessionQuery(label=label, limit=2))
            if any(other.key != key for other in page.sessions):
                raise InvalidRequest(f"label already in use: {label}", param="label")
        if "spawnedBy" in changes:
            info = await self._catalog.find(key)
            had = None if info is None else info.settings.get("spawnedBy")
            if had is not None and changes["spawnedBy"] != had:
                verb = "cleared" if changes["spawnedBy"] is None else "changed"
                raise InvalidRequest(f"spawnedBy cannot be {verb} once set", param="spawnedBy")

    async def _quiet(self, key: SessionKey, reason: str) -> None:
        """Stop the Session's Runs and wait until they have ended. Raises SessionBusy."""
        runs = self._dispatcher.live(key)
        for run in reversed(runs):
            self._dispatcher.abort(run.id, reason)
        try:
            async with asyncio.timeout(_PATIENCE):
                for run in runs:
                    await self._dispatcher.ended(run.id)
        except TimeoutError:
            raise SessionBusy(
                f"Session {key} is still active; try again in a moment.", retry_after=_PATIENCE
            ) from None

    def _tell(self, key: SessionKey, what: str) -> None:
        for told in tuple(self._on_change):
            told(key, what)
