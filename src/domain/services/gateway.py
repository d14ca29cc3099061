"""The Gateway: the service that every transport calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

from ..access import KEY_PRINCIPAL, Action, Credential, Principal, Resource, may, require
from ..agents import Agent, AgentDirectory
from ..byte_budget import NO_CHARGE, Charge, InFlight
from ..chat_commands import ChatCommand
from ..concurrency import image_bytes, off_loop, shielded
from ..errors import EventsExpired, Forbidden, Unauthenticated, UnknownRun
from ..execution import Execution, Generations, StoredCalls, check_results, execution_of
from ..messages import Role
from ..models import ModelTarget
from ..ports import (
    Clock,
    CurrentSettings,
    NewId,
    RunEvents,
    RunQueue,
    RunSignals,
    SessionCatalog,
    Turn,
    Watchers,
)
from ..runs import (
    TERMINAL,
    EventBatch,
    OnLeave,
    RunPage,
    RunQuery,
    RunRecord,
    RunRequest,
    RunSpec,
    Submission,
)
from ..sessions import KeptMessage, SessionKey, check_send, parse_key
from ..settings import Settings
from .access import Access, Hold
from .active_runs import ActiveRuns, run_resource
from .ownership import SessionClaims, own_key, sees_session
from .quotas import NO_LIMITS, Allowances, Quotas
from .submissions import check_key, check_repeated, command_of, fingerprint, make_spec

MAX_RUNS_LISTED = 500
_NEWEST = 20
"""Messages among which a Run's answer is looked for, right after the Run has ended."""

Events = AsyncIterator[EventBatch]
"""A Run's events as `RunEvents.follow` yields them, in batches of those that are there."""

OnRun = Callable[[RunRecord], None]
"""Called for every Run that is accepted, by whichever transport. Must not wait."""

OnAccepted = Callable[[RunRecord], Awaitable[None]]
"""Is called with the Run that a request has begun, before anybody else."""


class Drains(Protocol):
    """What executes Runs in this process."""

    async def drain(self, grace: float) -> None:
        """Take no more Runs; let those there finish for `grace` seconds, then abort the rest."""
        ...


class Gateway:
    """Authenticates, authorises, accepts Runs, and lets them be seen, followed and stopped.

    Every method that needs a Principal checks here what it may do, so that no transport can forget
    to; what a principal may not see is unknown to it.
    """

    def __init__(
        self,
        *,
        settings: CurrentSettings,
        generations: Generations,
        access: Access,
        queue: RunQueue,
        signals: RunSignals,
        executor: Drains,
        run_events: RunEvents,
        catalog: SessionCatalog,
        clock: Clock,
        new_id: NewId,
        quotas: Quotas | None = None,
        watchers: Watchers | None = None,
    ) -> None:
        """`watchers`: those of the other processes too; None: there are no others."""
        self._quotas = quotas
        self._settings = settings
        self._generations = generations
        self.access = access
        self._queue = queue
        self._signals = signals
        self._watchers = watchers
        self._executor = executor
        self._run_events = run_events
        self._catalog = catalog
        self._stored_calls = StoredCalls(run_events, catalog)
        self._clock = clock
        self._new_id = new_id
        self.in_flight = InFlight(lambda: settings().max_bytes_in_flight)
        """The budget that transports charge what they read to."""
        self._active_runs = ActiveRuns(queue, signals)
        self._claims = SessionClaims(catalog, clock, new_id)
        self._followers: Counter[str] = Counter()
        self._last_left: asyncio.Event | None = None
        """Set when there is no follower any more."""
        self._on_run: list[OnRun] = []

    @property
    def settings(self) -> Settings:
        """The settings in force now."""
        return self._settings()

    @property
    def followed(self) -> int:
        """How many Runs have a follower whose leave may stop them."""
        return len(self._followers)

    async def authenticate(self, credential: Credential) -> Principal:
        """The Principal that the credential proves. Raises Unauthenticated, LockedOut, NotLocal."""
        return await self.access.authenticate(credential)

    def agents(self, principal: Principal) -> tuple[Agent, ...]:
        """The agents the principal may use. Raises Forbidden."""
        require(principal, Action.SEE_AGENT)
        return tuple(
            agent
            for agent in self._settings().agents
            if may(principal, Action.SEE_AGENT, Resource(agent.id))
        )

    def directory(self, principal: Principal) -> AgentDirectory:
        """The same as a directory. Its default is the configured one, or else the first agent that
        the principal may use. Raises Forbidden, also where there is none."""
        visible = self.agents(principal)
        default = self._settings().agents.default
        if default not in visible:
            if not visible:
                raise Forbidden("None of the agents of this credential is configured.")
            default = visible[0]
        return AgentDirectory(visible, default.id)

    async def sees(self, principal: Principal, key: SessionKey) -> bool:
        """Whether the principal may see the Session."""
        return await sees_session(principal, key, self._catalog)

    def models(self, principal: Principal) -> tuple[ModelTarget, ...]:
        """The configured models, by provider and name. Raises Forbidden."""
        require(principal, Action.SEE_MODELS)
        return tuple(self._settings().models)

    def command(self, request: RunRequest) -> ChatCommand | None:
        """The command that the request is; None: it is said to the model."""
        return command_of(request, self._settings())

    def session_key(
        self, text: str, *, agent_id: str | None = None, principal: Principal | None = None
    ) -> SessionKey:
        """A session key as `principal` wrote it, canonical: `main` is the default agent's main
        session. Raises SessionKeyInvalid, UnknownAgent, and UnknownSession for one of another API
        key."""
        has_own = principal is not None and principal.key_id
        agents = self.directory(principal) if principal and has_own else self._settings().agents
        default = agents.find(agent_id, param="agentId") if agent_id else agents.default
        key, _ = parse_key(text, default_agent=default.id, allow_reserved=True)
        return key if principal is None else own_key(key, principal)

    def allowances(self, principal: Principal) -> Allowances:
        """What the principal's API key has left of its limits."""
        return NO_LIMITS if self._quotas is None else self._quotas.allowances(principal.key_id)

    async def flush_usage(self) -> None:
        """Return when what API keys have used so far can be read."""
        if self._quotas is not None:
            await self._quotas.flush()

    async def check_request(self, principal: Principal) -> None:
        """Count a request that begins no Run. Raises RateLimited, QuotaExceeded, StoreFailed."""
        if principal.key_id and self._quotas is not None:
            await self._quotas.check_request(principal.key_id)

    async def submit(
        self, principal: Principal, request: RunRequest, *, charge: Charge = NO_CHARGE
    ) -> RunSpec:
        """Accept a Run, or refuse it before anything has happened. An accepted Run holds `charge`
        until it has ended.

        Raises Forbidden, InvalidRequest and its kinds, RateLimited, SessionBusy, GatewayBusy,
        ShuttingDown.
        """
        require(principal, Action.START_RUN)
        settings = self._settings()
        spec = await self._make(principal, request, settings, self._new_id())
        if principal.key_id and self._quotas is not None:
            await self._quotas.admit(principal.key_id, spec.id)
        if _needs_claim(spec):
            await self._claim(principal, spec)
        try:
            submission = await self._enqueue(spec, settings, charge)
        except asyncio.CancelledError:
            await shielded(self._signals.abort(spec.id, "The client left."))
            raise
        if self._on_run:
            self._tell(submission.record)
        return spec

    async def plan(self, principal: Principal, request: RunRequest) -> Execution:
        """What the Run of a request would be. None begins, and nothing is reserved.

        Raises Forbidden, InvalidRequest and its kinds, RateLimited, QuotaExceeded.
        """
        require(principal, Action.START_RUN)
        await self.check_request(principal)
        settings = self._settings()
        spec = await self._make(principal, request, settings, self._new_id())
        return execution_of(spec, settings)

    async def submit_once(
        self,
        principal: Principal,
        request: RunRequest,
        idempotency_key: str,
        *,
        accepted: OnAccepted | None = None,
        charge: Charge = NO_CHARGE,
    ) -> Submission:
        """Accept a Run under an id that the client chose, or find the one it has begun already.

        The id is reserved, durably, before anything happens, so that a repeated request gets the
        same Run, also after a restart. `accepted` is called the moment a Run begins by it, before
        anybody else hears of that. Raises as `submit` does, and KeyReused.
        """
        require(principal, Action.START_RUN)
        settings = self._settings()
        spec = await self._make(principal, request, settings, check_key(idempotency_key))
        if spec.command is None:  # A command sends nothing to a model.
            await self._refuse_blocked(spec)
        if principal.key_id and self._quotas is not None:
            known = await self._run_events.find(spec.id) is not None
            await self._quotas.admit(principal.key_id, spec.id, known=known)
        if _needs_claim(spec):
            await self._claim(principal, spec)
        asked = await off_loop(image_bytes(spec.messages), partial(fingerprint, request, spec))
        # Who stops waiting does not leave an id reserved for a Run that never begins.
        charge.keep()
        submission = await shielded(self._begin_once(spec, settings, asked, accepted, charge))
        require(principal, Action.START_RUN, run_resource(submission.record))
        return replace(submission, spec=spec)

    def follow(
        self,
        principal: Principal,
        run: RunSpec | RunRecord,
        after: int = 0,
        *,
        kept: bool = False,
        stops: bool = True,
    ) -> Following:
        """The Run's events numbered above `after`, to be read within the context that this is.

        `kept`: each event only once it is kept, so that a follower may come back after a crash.
        Leaving the context before the terminal event is leaving the Run: where it was asked for
        so (`OnLeave.ABORT`), the last follower to leave stops it, unless it follows without
        `stops`. Raises Forbidden; the events raise UnknownRun, EventsExpired, StoreFailed.
        """
        require(principal, Action.SEE_RUN, run_resource(run))
        read = self._run_events.follow_kept if kept else self._run_events.follow
        return Following(self, principal, run, read(run.id, after), stops=stops)

    def _enter(self, run: RunSpec | RunRecord) -> None:
        self._followers[run.id] += 1

    async def _attend(self, watchers: Watchers, run: RunSpec | RunRecord) -> None:
        if run.on_leave is OnLeave.ABORT:
            try:
                await watchers.enter(run.id)
            except BaseException:
                self._forget_follower(run)
                raise

    async def _leave(self, run: RunSpec | RunRecord, *, ended: bool, goes_on: bool) -> None:
        if not self._forget_follower(run) or run.on_leave is not OnLeave.ABORT:
            return
        if self._watchers is None:
            if not (ended or goes_on):
                await self._signals.abort(run.id, "The client left.")
        elif ended:
            self._watchers.ended(run.id)
        else:
            await self._watchers.leave(run.id, goes_on=goes_on)

    def _forget_follower(self, run: RunSpec | RunRecord) -> bool:
        """Whether it was the last one."""
        self._followers[run.id] -= 1
        if self._followers[run.id]:
            return False
        del self._followers[run.id]
        if self._last_left is not None and not self._followers:
            self._last_left.set()
        return True

    def watch(self, principal: Principal, run_id: str, after: int = 0) -> Events:
        """A Run's events numbered above `after`, each once it is kept, for one who only looks on:
        leaving means nothing. Raises Forbidden."""
        require(principal, Action.SEE_RUN)
        if principal.agents is None:
            return self._run_events.follow_kept(run_id, after)
        return self._watch(principal, run_id, after)

    async def _watch(self, principal: Principal, run_id: str, after: int) -> Events:
        await self.run(principal, run_id)
        async for batch in self._run_events.follow_kept(run_id, after):
            yield batch

    async def run(self, principal: Principal, run_id: str) -> RunRecord:
        """What is known of a Run. Raises Forbidden, UnknownRun."""
        require(principal, Action.SEE_RUN)
        record = await self._run_events.find(run_id)
        if record is None or not may(principal, Action.SEE_RUN, run_resource(record)):
            raise _unknown(run_id)
        return record

    async def answer(
        self, principal: Principal, key: SessionKey, run_id: str
    ) -> KeptMessage | None:
        """The last message of the assistant's that a Run stored, where it is among the Session's
        newest. Raises Forbidden, StoreFailed."""
        require(principal, Action.SEE_SESSION)
        if not await self.sees(principal, key):
            return None
        newest = await self._catalog.messages(key, limit=_NEWEST)
        return next(
            (
                kept
                for kept in reversed(newest)
                if kept.run_id == run_id and kept.message.role is Role.ASSISTANT
            ),
            None,
        )

    async def turn(self, principal: Principal, run: RunRecord) -> Turn | None:
        """What the Run has stored in its Session; None where nothing is (any more). Raises
        Forbidden, StoreFailed."""
        require(principal, Action.SEE_RUN, run_resource(run))
        return await self._catalog.turn(run.id)

    async def cursor(self, principal: Principal, run_id: str) -> str:
        """The cursor of the page of `runs` that begins behind the Run. Raises Forbidden,
        UnknownRun."""
        await self.run(principal, run_id)
        cursor = await self._run_events.cursor(run_id)
        if cursor is None:
            raise _unknown(run_id)
        return cursor

    async def runs(self, principal: Principal, query: RunQuery) -> RunPage:
        """Runs, newest first. Raises Forbidden, InvalidRequest."""
        require(principal, Action.SEE_RUN)
        if principal.agents is not None:
            query = replace(query, principal_id=principal.id)
        page = await self._run_events.list(query)
        seen = tuple(one for one in page.runs if may(principal, Action.SEE_RUN, run_resource(one)))
        return page if len(seen) == len(page.runs) else replace(page, runs=seen)

    async def wait(self, principal: Principal, run_id: str, seconds: float | None) -> RunRecord:
        """The Run as it stands when it has ended, or was handed back, or when the time is over.

        Raises Forbidden, UnknownRun.
        """
        require(principal, Action.SEE_RUN)
        if principal.agents is not None:
            await self.run(principal, run_id)
        try:
            async with asyncio.timeout(seconds):
                await self._run_events.ended(run_id)
        except TimeoutError:
            pass  # How it stands then is the answer.
        return await self.run(principal, run_id)

    async def abort(self, principal: Principal, run_id: str, reason: str) -> bool:
        """Stop a Run. False when there is nothing left to stop. Raises Forbidden."""
        require(principal, Action.STOP_RUN)
        if principal.agents is not None:
            await self.run(principal, run_id)
        return await self._signals.abort(run_id, reason)

    async def abort_session(
        self, principal: Principal, key: SessionKey, reason: str
    ) -> tuple[str, ...]:
        """Stop the Session's Runs, as `ActiveRuns.stop` does; returns their ids. Raises
        Forbidden."""
        return await self._active_runs.stop(principal, key, reason)

    async def active(
        self, principal: Principal, key: SessionKey | None = None
    ) -> tuple[RunSpec, ...]:
        """The Runs that have not ended, of a Session or all, in their order. Raises Forbidden."""
        return await self._active_runs.of(principal, key)

    def on_run(self, listener: OnRun) -> Callable[[], None]:
        """Have `listener` called for every Run that this process accepts; what is returned ends
        that. Where there are other processes, the control plane passes the calls on to them."""
        self._on_run.append(listener)
        return lambda: self._on_run.remove(listener)

    async def drain(self, grace: float) -> None:
        """Take no more Runs; let those there finish for `grace` seconds, then abort the rest. Those
        that other processes execute, for followers of this one, get the same time."""
        if self._watchers is None:
            await self._executor.drain(grace)
        else:
            await asyncio.gather(self._executor.drain(grace), self._followers_gone(grace))

    async def _followers_gone(self, seconds: float) -> None:
        """Return when there are none, or the time is over."""
        if self._followers:
            self._last_left = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._last_left.wait()

    async def _make(
        self, principal: Principal, request: RunRequest, settings: Settings, run_id: str
    ) -> RunSpec:
        if principal.agents is not None:
            settings = replace(settings, agents=self.directory(principal))
        spec = make_spec(request, settings, run_id=run_id, principal=principal, at=self._clock())
        if spec.is_alone and any(message.role is Role.TOOL for message in spec.messages):
            messages = await self._stored_calls.completed(
                spec.messages, agent_id=spec.agent_id, principal=principal
            )
            check_results(messages, sent=request.messages)
            spec = replace(spec, messages=messages)
        return spec

    async def _claim(self, principal: Principal, spec: RunSpec) -> None:
        try:
            await self._claims.claim(principal, spec.session_key)
        except BaseException:
            if self._quotas is not None:
                self._quotas.release(spec)
            raise

    async def _refuse_blocked(self, spec: RunSpec) -> None:
        """Before anything happens; a Run of `submit` is looked at when its Session is read."""
        info = await self._catalog.find(spec.session_key)
        own = None if info is None else info.settings.get("sendPolicy")
        check_send(spec.session_key, self._settings().sessions.send_policy, own)

    async def _enqueue(
        self,
        spec: RunSpec,
        settings: Settings,
        charge: Charge,
        *,
        fingerprint: str = "",
        once: bool = False,
    ) -> Submission:
        charge.keep()
        self._generations.hold(settings)
        released = partial(self._release, spec, charge)
        try:
            submission = await self._queue.enqueue(
                spec, fingerprint=fingerprint, once=once, on_release=released
            )
        except BaseException:
            released()
            raise
        if not submission.fresh:
            released()
        return submission

    def _release(self, spec: RunSpec, charge: Charge) -> None:
        """This process no longer has the Run."""
        if self._quotas is not None and spec.principal_id.startswith(KEY_PRINCIPAL):
            self._quotas.release(spec)
        self._generations.release(spec.generation)
        charge.release()

    async def _begin_once(
        self,
        spec: RunSpec,
        settings: Settings,
        asked: str,
        accepted: OnAccepted | None,
        charge: Charge,
    ) -> Submission:
        try:
            submission = await self._enqueue(spec, settings, charge, fingerprint=asked, once=True)
        finally:
            charge.release()
        if not submission.fresh:
            check_repeated(submission.record, asked)
            return submission
        if accepted is not None:
            await accepted(submission.record)
        self._tell(submission.record)
        return submission

    def _tell(self, record: RunRecord) -> None:
        for listener in tuple(self._on_run):
            listener(record)


class Following:
    """A follower's view of a Run, as a context: its events, and what is done when it leaves.

    The task that enters the context reads the events. They end with Unauthenticated when a grant
    of the principal ends.
    """

    __slots__ = (
        "_detached",
        "_ended",
        "_events",
        "_gateway",
        "_hold",
        "_principal",
        "_reader",
        "_revoked",
        "_run",
        "_waiting",
    )

    def __init__(
        self,
        gateway: Gateway,
        principal: Principal,
        run: RunSpec | RunRecord,
        events: Events,
        *,
        stops: bool = True,
    ) -> None:
        self._gateway = gateway
        self._principal = principal
        self._run = run
        self._events = events
        self._ended = False
        """It has seen the end."""
        self._detached = not stops
        self._hold: Hold | None = None
        self._reader: asyncio.Task[object] | None = None
        """The task that entered the context, and reads the events."""
        self._waiting = False
        """It waits for events."""
        self._revoked: str | None = None
        """Why a grant has ended."""

    async def detach(self, seq: int) -> None:
        """Have the Run go on without this follower, whatever its departure would mean. Returns when
        its events up to the one of that number are kept. Raises StoreFailed."""
        try:
            async for _ in self._gateway._run_events.follow_kept(self._run.id, seq - 1):
                break
        except EventsExpired:
            pass  # It was kept before it expired.
        self._detached = True

    async def __aenter__(self) -> Following:
        self._gateway._enter(self._run)
        if self._gateway._watchers is not None:
            await self._gateway._attend(self._gateway._watchers, self._run)
        if self._principal.grants:
            self._reader = asyncio.current_task()
            self._hold = self._gateway.access.hold(self._principal, self._revoke)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._hold is not None:
            self._hold.release()
        await self._gateway._leave(self._run, ended=self._ended, goes_on=self._detached)

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> EventBatch:
        if self._revoked is not None:
            raise _no_longer_valid(self._revoked)
        self._waiting = True
        try:
            batch = await anext(self._events)
        except asyncio.CancelledError:
            # Other cancellations of the task, such as a time limit's, go on.
            if self._revoked is None or self._uncancelled() > 0:
                raise
            raise _no_longer_valid(self._revoked) from None
        finally:
            self._waiting = False
        self._ended = isinstance(batch.events[-1], TERMINAL)
        return batch

    def _revoke(self, reason: str) -> None:
        self._revoked = reason
        if self._waiting and self._reader is not None:
            self._reader.cancel()

    def _uncancelled(self) -> int:
        """Take back the cancellation by `_revoke`; how many others there are."""
        return 0 if self._reader is None else self._reader.uncancel()


def _needs_claim(spec: RunSpec) -> bool:
    """Whoever may go on behind a Run has its session; a one-off session is nobody else's."""
    return not spec.one_off and not spec.after_run


def _unknown(run_id: str) -> UnknownRun:
    return UnknownRun(f"There is no run {run_id!r}, or it ended too long ago.")


def _no_longer_valid(reason: str) -> Unauthenticated:
    return Unauthenticated(f"The credential of this request is no longer valid: {reason}.")
