"""Looking after Sessions: listing, reading, settings, starting over, deleting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from ..access import Action, Principal, may, require
from ..concurrency import shielded
from ..errors import InvalidRequest, ModelFailed, StoreFailed, UnknownSession
from ..execution import Compactor, SummaryRefused, readable_tokens
from ..messages import Role, text_message
from ..ports import (
    Clock,
    CurrentSettings,
    NewId,
    RunQueue,
    SessionCatalog,
    SessionStore,
    SummaryLocks,
    Turn,
)
from ..sessions import (
    ANYTHING,
    HARMLESS,
    MAIN,
    Compacted,
    CompactionOutcome,
    Expected,
    KeptMessage,
    KeptTranscript,
    PeriodUsage,
    SessionInfo,
    SessionKey,
    SessionPage,
    SessionQuery,
    Setting,
    UsageQuery,
    applied_to,
    checked,
    history_tokens,
)
from .ownership import sees_session, session_resource

logger = logging.getLogger(__name__)

_ALL = 100_000
"""Sessions that are looked through for those of a restricted principal."""
_PATIENCE = 15.0
"""Seconds that a change of a session waits for the runs before it to end."""
_LOCKED_BEYOND = 30.0
"""Seconds that the lock of a summary outlasts the time limit of its model calls."""
_LONGEST_LOCK = 3_600.0
"""Seconds that it lasts at most where these have no time limit."""

OnChange = Callable[[SessionKey, str, str], None]
"""Called with a Session, what was done to it (patched, reset, deleted, compacted, injected), and
the id of the message that was injected."""


T = TypeVar("T")

Work = Callable[[], Coroutine[Any, Any, T]]


class SessionService:
    """Every method takes a Principal and checks what it may do; keys are canonical.

    Whatever changes a Session's transcript does so in the order of its Runs and beside none of
    them, and is done to its end once it has begun.
    """

    def __init__(
        self,
        *,
        settings: CurrentSettings,
        store: SessionStore,
        catalog: SessionCatalog,
        queue: RunQueue,
        compactor: Compactor,
        clock: Clock,
        new_id: NewId,
        summary_locks: SummaryLocks | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._queue = queue
        self._compactor = compactor
        self._summarising: set[SessionKey] = set()
        """The Sessions that this process has a summary written of."""
        self._summary_locks = summary_locks
        self._clock = clock
        self._new_id = new_id
        self._on_change: list[OnChange] = []
        self._labelling = asyncio.Lock()
        self._patching: set[asyncio.Task[SessionInfo]] = set()

    def on_change(self, listener: OnChange) -> Callable[[], None]:
        """Have `listener` called after each change; what is returned ends that."""
        self._on_change.append(listener)
        return lambda: self._on_change.remove(listener)

    async def list(self, principal: Principal, query: SessionQuery) -> SessionPage:
        require(principal, Action.SEE_SESSION)
        if principal.agents is None:
            return await self._catalog.list(query)
        whole = await self._catalog.list(replace(query, limit=_ALL, offset=0))
        seen = self._seen(principal, whole.sessions)
        return SessionPage(seen[query.offset : query.offset + query.limit], len(seen))

    async def find(self, principal: Principal, key: SessionKey) -> SessionInfo | None:
        require(principal, Action.SEE_SESSION)
        info = await self._catalog.find(key)
        return None if info is None or not self._seen(principal, (info,)) else info

    async def with_id(self, principal: Principal, session_id: str) -> tuple[SessionInfo, ...]:
        """The Sessions whose current transcript has that id."""
        require(principal, Action.SEE_SESSION)
        return self._seen(principal, await self._catalog.find_by_id(session_id))

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
        require(principal, Action.SEE_SESSION)
        if not await self._sees(principal, key):
            return ()
        return await self._catalog.messages(key, limit=limit, before=before, session_id=session_id)

    async def transcripts(
        self, principal: Principal, key: SessionKey, limit: int
    ) -> tuple[KeptTranscript, ...]:
        require(principal, Action.SEE_SESSION)
        if not await self._sees(principal, key):
            return ()
        return await self._catalog.transcripts(key, limit)

    async def turn(self, principal: Principal, run_id: str) -> Turn | None:
        """What a Run stored."""
        require(principal, Action.SEE_SESSION)
        turn = await self._catalog.turn(run_id)
        return None if turn is None or not await self._sees(principal, turn.key) else turn

    async def usage(self, principal: Principal, query: UsageQuery) -> tuple[PeriodUsage, ...]:
        """Tokens by period, agent and model; for a restricted principal of one Session alone."""
        require(principal, Action.SEE_USAGE)
        if principal.agents is not None and (
            query.key is None or not await self._sees(principal, query.key)
        ):
            return ()
        return await self._catalog.usage(query)

    async def patch(
        self,
        principal: Principal,
        key: SessionKey,
        asked: Mapping[str, Setting],
        *,
        expected: Expected = ANYTHING,
    ) -> SessionInfo:
        """Change a Session's settings; one that is not there yet begins.

        Settings are no part of the transcript and are merged in one step, so that this does not
        wait for Runs. Raises Forbidden (operator.admin for what is not harmless), InvalidRequest.
        """
        harmless = HARMLESS.issuperset(asked)
        require(principal, Action.SET_SESSION if harmless else Action.CHANGE_SESSION)
        if not await self._sees(principal, key):
            raise UnknownSession(f"session not found: {key}")
        settings = self._settings()
        settings.agents.find(key.agent_id, param="key")
        changes = checked(key, asked, settings.models)
        return await self._patch_alone(key, changes, expected)

    async def _patch_alone(
        self, key: SessionKey, changes: Mapping[str, Setting], expected: Expected
    ) -> SessionInfo:
        task = asyncio.create_task(self._patch(key, changes, expected))
        self._patching.add(task)
        task.add_done_callback(self._patching.discard)
        # A caller that is cancelled must not let go of the lock before the write is done.
        return await shielded(task)

    async def set_up(self, key: SessionKey, changes: Mapping[str, Setting]) -> SessionInfo:
        """Settings of a session that the Gateway itself begins, in addition to those that it has.
        The caller has checked them. Raises InvalidRequest where another session has the label."""
        return await self._patch_alone(key, changes, ANYTHING)

    async def reset(
        self, principal: Principal, key: SessionKey, *, expected: Expected = ANYTHING
    ) -> SessionInfo:
        """Stop the Session's Runs and start a new, empty transcript; settings stay.

        Raises InvalidRequest, SessionBusy.
        """
        require(principal, Action.CHANGE_SESSION)
        self._settings().agents.find(key.agent_id, param="key")

        async def work() -> SessionInfo:
            await self._check(key, expected)
            info = await self._catalog.reset(key, at=self._clock(), new_id=self._new_id())
            self._tell(key, "reset")
            return info

        await self._check(key, expected)  # Before any Run is stopped for nothing.
        return await self._alone(key, work, stop="The session was reset.")

    async def delete(
        self, principal: Principal, key: SessionKey, *, expected: Expected = ANYTHING
    ) -> bool:
        """Stop the Session's Runs and forget it. Raises InvalidRequest (also for a main one),
        SessionBusy."""
        require(principal, Action.CHANGE_SESSION)
        if key.rest == MAIN:
            raise InvalidRequest(f"Cannot delete the main session ({key}).", param="key")

        async def work() -> bool:
            await self._check(key, expected)
            deleted = await self._catalog.delete(key)
            if deleted:
                self._tell(key, "deleted")
            return deleted

        await self._check(key, expected)
        return await self._alone(key, work, stop="The session was deleted.")

    async def compact(
        self,
        principal: Principal,
        key: SessionKey,
        keep: int,
        *,
        expected: Expected = ANYTHING,
    ) -> Compacted:
        """Go on with at most the `keep` newest messages; the whole transcript is kept as an
        earlier one. Waits for the Runs before it. Raises UnknownSession, InvalidRequest,
        SessionBusy."""
        require(principal, Action.CHANGE_SESSION)

        async def work() -> Compacted:
            before = await self._catalog.find(key)
            expected.check(key, before)
            compacted = await self._catalog.compact(
                key, keep, at=self._clock(), new_id=self._new_id()
            )
            if compacted is None:
                raise UnknownSession(f"session not found: {key}")
            info, kept = compacted
            self._tell(key, "compacted")
            return Compacted(info, kept, before is None or before.session_id != info.session_id)

        return await self._alone(key, work)

    async def summarise(
        self,
        principal: Principal,
        key: SessionKey,
        *,
        instructions: str = "",
        expected: Expected = ANYTHING,
    ) -> CompactionOutcome:
        """Have the Session's model write a summary of all but the newest messages, which replaces
        them in what models get; the transcript stays as it is. `instructions`: what the summary
        should pay attention to.

        It does not wait for Runs, since later messages do not change the older ones. A Run that
        goes on keeps the history that it has. Ends without a summary where the caller is cancelled.
        Raises UnknownSession, InvalidRequest.
        """
        require(principal, Action.SET_SESSION)
        info = await self.find(principal, key)
        if info is None:
            raise UnknownSession(f"session not found: {key}")
        expected.check(key, info)
        settings = self._settings()
        agent = settings.agents.find(key.agent_id, param="key")
        agent = applied_to(agent, info.settings, settings.models)
        chars = agent.max_result_chars
        limit = _LONGEST_LOCK if agent.timeout is None else agent.timeout + _LOCKED_BEYOND
        async with self._summary_lock(key, limit) as is_locked:
            # Read under the lock: it has the summary that another process has written before.
            session = await self._store.load(key, readable_tokens(agent), result_chars=chars)
            if session is None:
                raise UnknownSession(f"session not found: {key}")
            kept, tokens, reason = session.tail, history_tokens(session.tail), ""
            if not is_locked:
                reason = "A summary of the session is being written already."
                return CompactionOutcome(info, len(kept.messages), tokens, tokens, reason)
            before = tokens
            try:
                async with asyncio.timeout(agent.timeout):
                    kept, before = await self._compactor.compact_session(
                        session, self._store, agent, instructions=instructions
                    )
                tokens = history_tokens(kept)
            except TimeoutError:
                reason = f"The summary took longer than {agent.timeout:g} s."
            except (SummaryRefused, ModelFailed) as error:
                reason = error.message
        if not reason:
            self._tell(key, "compacted")
            info = await self._catalog.find(key) or info
        return CompactionOutcome(info, len(kept.messages), before, tokens, reason)

    async def inject(
        self, principal: Principal, key: SessionKey, text: str
    ) -> tuple[SessionInfo, str]:
        """Put a message of the assistant's into the Session; returns its id too.

        Waits for the Runs before it. Raises UnknownSession, SessionBusy.
        """
        require(principal, Action.CHANGE_SESSION)

        async def work() -> tuple[SessionInfo, str]:
            info = await self._catalog.find(key)
            if info is None:
                raise UnknownSession(f"session not found: {key}")
            turn = self._injected(info, text)
            await self._store.append(turn)
            self._tell(key, "injected", turn.run_id)
            return info, turn.run_id

        return await self._alone(key, work)

    @asynccontextmanager
    async def _summary_lock(self, key: SessionKey, seconds: float) -> AsyncIterator[bool]:
        """Whether the Session is locked for a summary by this caller, in this process and over all,
        until the context ends. `seconds`: for at most so long. Raises StoreFailed."""
        locks = self._summary_locks
        if key in self._summarising:
            yield False
            return
        self._summarising.add(key)
        try:
            if locks is None:
                yield True
            elif await locks.lock(key, seconds):
                try:
                    yield True
                finally:
                    await self._unlock(locks, key)
            else:
                yield False
        finally:
            self._summarising.discard(key)

    async def _unlock(self, locks: SummaryLocks, key: SessionKey) -> None:
        try:
            await shielded(locks.unlock(key))
        except StoreFailed as error:  # The lock ends by itself.
            extra = {"session": str(key), "reason": error.message}
            logger.warning("a session stays locked for summaries for a while", extra=extra)

    async def _sees(self, principal: Principal, key: SessionKey) -> bool:
        return principal.agents is None or await sees_session(principal, key, self._catalog)

    @staticmethod
    def _seen(principal: Principal, sessions: tuple[SessionInfo, ...]) -> tuple[SessionInfo, ...]:
        return tuple(
            info for info in sessions if may(principal, Action.SEE_SESSION, session_resource(info))
        )

    async def _alone(self, key: SessionKey, work: Work[T], *, stop: str | None = None) -> T:
        return await self._queue.exclusive(key, work, patience=_PATIENCE, stop=stop)

    async def _check(self, key: SessionKey, expected: Expected) -> None:
        if expected != ANYTHING:
            expected.check(key, await self._catalog.find(key))

    async def _patch(
        self, key: SessionKey, changes: Mapping[str, Setting], expected: Expected
    ) -> SessionInfo:
        # Two at once would both find a label free.
        async with self._labelling:
            await self._check(key, expected)
            await self._refuse_conflicts(key, changes)
            info = await self._catalog.patch(key, changes, at=self._clock(), new_id=self._new_id())
        self._tell(key, "patched")
        return info

    def _injected(self, info: SessionInfo, text: str) -> Turn:
        return Turn(
            key=info.key,
            session_id=info.session_id,
            run_id=f"inject-{self._new_id()}",
            at=self._clock(),
            messages=(text_message(Role.ASSISTANT, text),),
            model=info.model,
        )

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

    def _tell(self, key: SessionKey, what: str, message_id: str = "") -> None:
        for listener in tuple(self._on_change):
            listener(key, what, message_id)
