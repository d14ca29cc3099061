"""The Gateway: the one door that transports call."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from .agents import Agent
from .auth import Credential, Principal, Scope, authenticate, authorize
from .errors import InvalidRequest
from .lockout import Lockout
from .messages import Role
from .ports import Clock, CurrentSettings, NewId, RunDispatcher, RunLog
from .runs import TERMINAL, NumberedEvent, OnLeave, Run, RunRequest
from .sessions import bind
from .settings import Settings


class Gateway:
    """Authenticates, authorises, accepts Runs, and lets them be followed and stopped.

    Every method that needs a Principal checks its scope here, so that no transport can forget to.
    """

    def __init__(
        self,
        *,
        settings: CurrentSettings,
        lockout: Lockout,
        dispatcher: RunDispatcher,
        run_log: RunLog,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._settings = settings
        self._lockout = lockout
        self._dispatcher = dispatcher
        self._run_log = run_log
        self._clock = clock
        self._new_id = new_id
        self._followers: Counter[str] = Counter()

    @property
    def settings(self) -> Settings:
        """The settings in force now."""
        return self._settings()

    def authenticate(self, credential: Credential) -> Principal:
        """Who is asking. Raises Unauthenticated, LockedOut."""
        return authenticate(credential, self._settings().auth, self._lockout)

    def agents(self, principal: Principal) -> tuple[Agent, ...]:
        """The agents the principal may use. Raises Forbidden."""
        authorize(principal, Scope.READ)
        return tuple(self._settings().agents)

    def submit(self, principal: Principal, request: RunRequest) -> Run:
        """Accept a Run, or refuse it before anything has happened.

        Raises Forbidden, InvalidRequest and its kinds, SessionBusy, GatewayBusy, ShuttingDown.
        """
        authorize(principal, Scope.WRITE)
        spoken = tuple(m for m in request.messages if m.role is not Role.SYSTEM)
        if not any(m.role in (Role.USER, Role.TOOL) for m in spoken):
            raise InvalidRequest("Missing user message in `messages`.", param="messages")
        run_id = self._new_id()
        binding = bind(
            self._settings().agents,
            model=request.model,
            agent_header=request.agent_id,
            session_key=request.session_key,
            user=request.user,
            door=request.door,
            new_id=run_id,
        )
        run = Run(
            id=run_id,
            agent=binding.agent,
            session_key=binding.key,
            principal_id=principal.id,
            messages=spoken,
            instructions=tuple(m for m in request.messages if m.role is Role.SYSTEM),
            params=request.params,
            on_leave=request.on_leave,
            accepted_at=self._clock(),
            one_off=binding.one_off,
        )
        self._dispatcher.dispatch(run)
        return run

    @asynccontextmanager
    async def follow(
        self, principal: Principal, run: Run, after: int = 0
    ) -> AsyncIterator[AsyncGenerator[NumberedEvent]]:
        """The Run's events numbered above `after`, to be read within the context.

        Leaving the context before the terminal event is leaving the Run: where it was asked for
        so (`OnLeave.ABORT`), the last follower to leave stops it.
        """
        authorize(principal, Scope.READ)
        followed = _Followed(self._run_log.follow(run.id, after))
        self._followers[run.id] += 1
        try:
            async with aclosing(followed.events()) as events:
                yield events
        finally:
            self._followers[run.id] -= 1
            if not self._followers[run.id]:
                del self._followers[run.id]
                if run.on_leave is OnLeave.ABORT and not followed.ended:
                    self._dispatcher.abort(run.id, "The client left.")

    def abort(self, principal: Principal, run_id: str, reason: str) -> bool:
        """Stop a Run. False when there is nothing left to stop. Raises Forbidden."""
        authorize(principal, Scope.WRITE)
        return self._dispatcher.abort(run_id, reason)

    async def drain(self, grace: float) -> None:
        """Take no more Runs; let those there finish for `grace` seconds, then abort the rest."""
        await self._dispatcher.drain(grace)


@dataclass(slots=True)
class _Followed:
    """A follower's view of a Run, and whether it has seen the end."""

    source: AsyncGenerator[NumberedEvent]
    ended: bool = False

    async def events(self) -> AsyncGenerator[NumberedEvent]:
        async with aclosing(self.source) as source:
            async for numbered in source:
                if isinstance(numbered.event, TERMINAL):
                    self.ended = True
                yield numbered
