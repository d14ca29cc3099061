"""The Gateway: the service that every transport calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

from ..access import Credential, Principal, Scope, authorize
from ..agents import Agent
from ..byte_budget import NO_CHARGE, Charge, InFlight
from ..concurrency import image_bytes, off_loop, shielded
from ..errors import Unauthenticated, UnknownRun
from ..messages import Role
from ..models import ModelTarget
from ..ports import Clock, CurrentSettings, NewId, RunDispatcher, RunLog, SessionCatalog
from ..runs import (
    TERMINAL,
    EventBatch,
    OnLeave,
    Run,
    RunPage,
    RunQuery,
    RunRecord,
    RunRequest,
    record_of,
)
from ..sessions import KeptMessage, SessionKey, check_send, parse_key
from ..settings import Settings
from .access import Access, Hold
from .submissions import Submission, check_key, fingerprint, make_run, repeated

MAX_RUNS_LISTED = 500
_NEWEST = 20
"""Messages among which a Run's answer is looked for, right after the Run has ended."""

Events = AsyncIterator[EventBatch]
"""A Run's events as `RunLog.follow` tells them: those that are there at once, together."""

OnRun = Callable[[RunRecord], None]
"""Is told of every Run that begins, by whichever transport. Must not wait."""


class Gateway:
    """Authenticates, authorises, accepts Runs, and lets them be seen, followed and stopped.

    Every method that needs a Principal checks its scope here, so that no transport can forget to.
    """

    def __init__(
        self,
        *,
        settings: CurrentSettings,
        access: Access,
        dispatcher: RunDispatcher,
        run_log: RunLog,
        catalog: SessionCatalog,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._settings = settings
        self.access = access
        self._dispatcher = dispatcher
        self._run_log = run_log
        self._catalog = catalog
        self._clock = clock
        self._new_id = new_id
        self.in_flight = InFlight(lambda: settings().max_bytes_in_flight)
        """The budget that transports charge what they read to."""
        self._followers: Counter[str] = Counter()
        self._on_run: list[OnRun] = []

    @property
    def settings(self) -> Settings:
        """The settings in force now."""
        return self._settings()

    async def authenticate(self, credential: Credential) -> Principal:
        """The Principal that the credential proves. Raises Unauthenticated, LockedOut, NotLocal."""
        return await self.access.authenticate(credential)

    def agents(self, principal: Principal) -> tuple[Agent, ...]:
        """The agents the principal may use. Raises Forbidden."""
        authorize(principal, Scope.READ)
        return tuple(self._settings().agents)

    def models(self, principal: Principal) -> tuple[ModelTarget, ...]:
        """The configured models, by provider and name. Raises Forbidden."""
        authorize(principal, Scope.READ)
        return tuple(self._settings().models)

    def session_key(self, text: str, *, agent_id: str | None = None) -> SessionKey:
        """A session key as somebody wrote it, canonical: `main` is the default agent's main
        session. Raises SessionKeyInvalid, UnknownAgent."""
        agents = self._settings().agents
        default = agents.find(agent_id, param="agentId") if agent_id else agents.default
        key, _ = parse_key(text, default_agent=default.id, allow_reserved=True)
        return key

    def submit(
        self, principal: Principal, request: RunRequest, *, charge: Charge = NO_CHARGE
    ) -> Run:
        """Accept a Run, or refuse it before anything has happened. An accepted Run holds `charge`
        until it has ended.

        Raises Forbidden, InvalidRequest and its kinds, SessionBusy, GatewayBusy, ShuttingDown.
        """
        authorize(principal, Scope.WRITE)
        run = self._make(principal, request, self._new_id())
        self._dispatch(run, charge)
        if self._on_run:
            self._tell(record_of(run))
        return run

    async def submit_once(
        self,
        principal: Principal,
        request: RunRequest,
        idempotency_key: str,
        *,
        accepted: OnRun | None = None,
        charge: Charge = NO_CHARGE,
    ) -> Submission:
        """Accept a Run under an id that the client chose, or find the one it has begun already.

        The id is reserved, durably, before anything happens, so that a repeated request gets the
        same Run, also after a restart. `accepted` is called the moment a Run begins by it, before
        anybody else hears of that. Raises as `submit` does, and KeyReused.
        """
        authorize(principal, Scope.WRITE)
        run = self._make(principal, request, check_key(idempotency_key))
        await self._refuse_blocked(run)
        asked = await off_loop(image_bytes(run.messages), partial(fingerprint, request, run))
        # Who stops waiting does not leave an id reserved for a Run that never begins.
        charge.keep()
        return await shielded(self._begin_once(run, asked, accepted, charge))

    def follow(
        self, principal: Principal, run: Run | RunRecord, after: int = 0, *, kept: bool = False
    ) -> Following:
        """The Run's events numbered above `after`, to be read within the context that this is.

        `kept`: each event only once it is kept, so that a follower may come back after a crash.
        Leaving the context before the terminal event is leaving the Run: where it was asked for
        so (`OnLeave.ABORT`), the last follower to leave stops it. Raises Forbidden; the events
        raise UnknownRun, EventsExpired, StoreFailed.
        """
        authorize(principal, Scope.READ)
        read = self._run_log.follow_kept if kept else self._run_log.follow
        return Following(self, principal, run, read(run.id, after))

    def _enter(self, run: Run | RunRecord) -> None:
        self._followers[run.id] += 1

    def _leave(self, run: Run | RunRecord, ended: bool) -> None:
        self._followers[run.id] -= 1
        if not self._followers[run.id]:
            del self._followers[run.id]
            if run.on_leave is OnLeave.ABORT and not ended:
                self._dispatcher.abort(run.id, "The client left.")

    def watch(self, principal: Principal, run_id: str, after: int = 0) -> Events:
        """A Run's events numbered above `after`, each once it is kept, for one who only looks on:
        leaving means nothing. Raises Forbidden."""
        authorize(principal, Scope.READ)
        return self._run_log.follow_kept(run_id, after)

    async def run(self, principal: Principal, run_id: str) -> RunRecord:
        """What is known of a Run. Raises Forbidden, UnknownRun."""
        authorize(principal, Scope.READ)
        record = await self._run_log.find(run_id)
        if record is None:
            raise UnknownRun(f"There is no run {run_id!r}, or it ended too long ago.")
        return record

    async def answer(
        self, principal: Principal, key: SessionKey, run_id: str
    ) -> KeptMessage | None:
        """The last message of the assistant's that a Run stored, where it is among the Session's
        newest. Raises Forbidden, StoreFailed."""
        authorize(principal, Scope.SESSIONS_READ)
        newest = await self._catalog.messages(key, limit=_NEWEST)
        return next(
            (
                kept
                for kept in reversed(newest)
                if kept.run_id == run_id and kept.message.role is Role.ASSISTANT
            ),
            None,
        )

    async def runs(self, principal: Principal, query: RunQuery) -> RunPage:
        """Runs, newest first. Raises Forbidden, InvalidRequest."""
        authorize(principal, Scope.READ)
        return await self._run_log.list(query)

    async def wait(self, principal: Principal, run_id: str, seconds: float) -> RunRecord:
        """The Run as it stands when it has ended, or when the time is over.

        Raises Forbidden, UnknownRun.
        """
        authorize(principal, Scope.READ)
        try:
            async with asyncio.timeout(seconds):
                await self._dispatcher.ended(run_id)
        except TimeoutError:
            pass  # How it stands then is the answer.
        return await self.run(principal, run_id)

    def abort(self, principal: Principal, run_id: str, reason: str) -> bool:
        """Stop a Run. False when there is nothing left to stop. Raises Forbidden."""
        authorize(principal, Scope.WRITE)
        return self._dispatcher.abort(run_id, reason)

    def abort_session(self, principal: Principal, key: SessionKey, reason: str) -> tuple[str, ...]:
        """Stop every Run of a Session, the waiting ones first, so that none of them begins.

        Tells which were stopped. Raises Forbidden.
        """
        authorize(principal, Scope.WRITE)
        runs = reversed(self._dispatcher.live(key))
        stopped = [run.id for run in runs if self._dispatcher.abort(run.id, reason)]
        return tuple(reversed(stopped))

    def active(self, principal: Principal, key: SessionKey | None = None) -> tuple[Run, ...]:
        """The Runs that have not ended, of a Session or all, in their order. Raises Forbidden."""
        authorize(principal, Scope.READ)
        return self._dispatcher.live(key)

    def on_run(self, told: OnRun) -> Callable[[], None]:
        """Have `told` called for every Run that begins; what is returned ends that."""
        self._on_run.append(told)
        return lambda: self._on_run.remove(told)

    async def drain(self, grace: float) -> None:
        """Take no more Runs; let those there finish for `grace` seconds, then abort the rest."""
        await self._dispatcher.drain(grace)

    def _make(self, principal: Principal, request: RunRequest, run_id: str) -> Run:
        return make_run(
            request,
            self._settings(),
            run_id=run_id,
            principal_id=principal.id,
            at=self._clock(),
        )

    async def _refuse_blocked(self, run: Run) -> None:
        """Before anything happens; a Run of `submit` is looked at when its Session is read."""
        info = await self._catalog.find(run.session_key)
        own = None if info is None else info.settings.get("sendPolicy")
        check_send(run.session_key, self._settings().sessions.send_policy, own)

    def _dispatch(self, run: Run, charge: Charge, fingerprint: str = "") -> None:
        charge.keep()
        try:
            self._dispatcher.dispatch(run, fingerprint=fingerprint, on_end=charge.release)
        except BaseException:
            charge.release()
            raise

    async def _begin_once(
        self, run: Run, asked: str, accepted: OnRun | None, charge: Charge
    ) -> Submission:
        record = record_of(run, fingerprint=asked)
        try:
            known = await self._run_log.reserve(record)
            if known is not None:
                return repeated(known, asked)
            try:
                self._dispatch(run, charge, asked)
            except BaseException:
                await self._run_log.release(run.id)
                raise
        finally:
            charge.release()
        if accepted is not None:
            accepted(record)
        self._tell(record)
        return Submission(record, fresh=True)

    def _tell(self, record: RunRecord) -> None:
        for told in tuple(self._on_run):
            told(record)


class Following:
    """A follower's view of a Run, as a context: its events, and what is done when it leaves.

    Its events end with Unauthenticated when a grant of its principal ends.
    """

    __slots__ = (
        "_ended",
        "_events",
        "_gateway",
        "_hold",
        "_principal",
        "_reader",
        "_revoked",
        "_run",
    )

    def __init__(
        self, gateway: Gateway, principal: Principal, run: Run | RunRecord, events: Events
    ) -> None:
        self._gateway = gateway
        self._principal = principal
        self._run = run
        self._events = events
        self._ended = False
        """It has seen the end."""
        self._hold: Hold | None = None
        self._reader: asyncio.Task[object] | None = None
        """The task that waits for events."""
        self._revoked: str | None = None
        """Why a grant has ended."""

    async def __aenter__(self) -> Events:
        self._gateway._enter(self._run)
        if self._principal.grants:
            self._hold = self._gateway.access.hold(self._principal, self._revoke)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._hold is not None:
            self._hold.release()
        self._gateway._leave(self._run, self._ended)

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> EventBatch:
        if self._revoked is not None:
            raise _no_longer_valid(self._revoked)
        self._reader = asyncio.current_task()
        try:
            told = await anext(self._events)
        except asyncio.CancelledError:
            # Other cancellations of the task, such as a time limit's, go on.
            if self._revoked is None or self._uncancelled() > 0:
                raise
            raise _no_longer_valid(self._revoked) from None
        finally:
            self._reader = None
        self._ended = isinstance(told.events[-1], TERMINAL)
        return told

    def _revoke(self, reason: str) -> None:
        self._revoked = reason
        if self._reader is not None:
            self._reader.cancel()

    def _uncancelled(self) -> int:
        """Take back the cancellation by `_revoke`; how many others there are."""
        return 0 if self._reader is None else self._reader.uncancel()


def _no_longer_valid(reason: str) -> Unauthenticated:
    return Unauthenticated(f"The credential of this request is no longer valid: {reason}.")
