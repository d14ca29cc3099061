"""Executes Runs in this process: claim, history, runner, commit, and exactly one terminal event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from ..access import KEY_PRINCIPAL
from ..concurrency import drop_traceback_of, drop_tracebacks
from ..errors import (
    GatewayError,
    LeaseLost,
    RunFailed,
    RunTimedOut,
    StoreFailed,
)
from ..models import StopReason
from ..ports import (
    NOTHING_SAID,
    AgentRunner,
    Archive,
    Clock,
    Commit,
    CurrentSettings,
    NewId,
    OpenTurn,
    RunContext,
    RunEvents,
    RunQueue,
    RunSignals,
    SessionCatalog,
    SessionStore,
    Spent,
    StoredSession,
    Turn,
)
from ..runs import (
    CONTENT,
    RUNNER_EVENTS,
    Aborted,
    Answered,
    Claim,
    Failed,
    Finished,
    Inbox,
    Journal,
    Resumed,
    RunnerEvent,
    RunnerEvents,
    RunSpec,
    Signal,
    Started,
    Waiting,
    failed_event,
)
from ..sessions import (
    Summary,
    is_temporary,
)
from .client_calls import StoredCalls
from .execution import execution_of
from .generations import Generations
from .histories import RunHistories
from .leases import Leases
from .live_runs import LiveRun, abandoned_event, failure_event
from .pictures import without_resent_pictures
from .recovery import conclude, decide, note_of, recover

logger = logging.getLogger(__name__)
content_log = logging.getLogger(CONTENT)


_PATIENCE = 10.0
"""Seconds that a runner gets to end."""
_LAST_PATIENCE = 2.0
"""The same while the Gateway shuts down, at most."""

COMMAND_RUNNER = "command"
"""The name of the runner that carries out commands. No agent has it."""
_ENDS: Final = (Answered, Waiting)
OnStop = Callable[[RunSpec, Finished | Failed | Aborted | None, OpenTurn | None, Spent], None]
"""Called when a Run of an API key is no longer at work, before its followers get the
event: with its ending, None if it waits, its stored steps, and what else it has used. Must not
wait."""
_Concluding = tuple[RunSpec, str, Answered]
"""What a Run has come to that only has to be stored: in the transcript of that id, or in a new one
where it is empty."""


class Executor:
    """Takes claims of a RunQueue as its `owner`: a task per Run, independent of its followers.

    Claims are renewed in time (see Leases). A Run whose lease is lost is dropped: its task is
    cancelled, and nothing that it does counts any more.

    `outage`: seconds without a renewal for which Runs go on while the queue cannot be reached,
    where that is longer than a lease.

    `patience`: seconds that a runner gets to end once its Run is stopped or its answer is complete.
    After that it is abandoned: the Run ends without it, and nothing that it does counts any more.
    A runner that blocks the event loop itself cannot be abandoned, since nothing else runs then.
    """

    def __init__(
        self,
        *,
        owner: str,
        runners: Mapping[str, AgentRunner],
        store: SessionStore,
        catalog: SessionCatalog,
        queue: RunQueue,
        signals: RunSignals,
        run_events: RunEvents,
        settings: CurrentSettings,
        generations: Generations,
        clock: Clock,
        new_id: NewId,
        lease: float = 30.0,
        outage: float = 0.0,
        patience: float = _PATIENCE,
        on_stop: OnStop | None = None,
    ) -> None:
        self._on_stop = on_stop
        self._runners = runners
        self._store = store
        self._catalog = catalog
        self._stored_calls = StoredCalls(run_events, catalog)
        self._histories = RunHistories(
            store,
            catalog,
            self._stored_calls,
            settings,
            generations,
            clock=clock,
            new_id=new_id,
        )
        self._queue = queue
        self._signals = signals
        self._run_events = run_events
        self._settings = settings
        self._generations = generations
        self._clock = clock
        self._new_id = new_id
        self._patience = patience
        self._live: dict[str, LiveRun] = {}
        self._abandoned: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()
        """Tasks that end Runs, or renew leases, beside the Runs' own."""
        self._unkept: dict[str, tuple[OpenTurn, Failed | Aborted]] = {}
        """Open turns of Runs that have ended while the store failed, by the ids of the Runs."""
        self._leases = Leases(
            queue,
            owner,
            lease,
            outage=max(lease, outage),
            runs=self._live.values(),
            lose=self._lose,
            beside=self._beside,
        )
        self._idle = asyncio.Event()
        self._idle.set()
        self.owner = owner
        self.lease_losses = 0
        self.take_overs = 0
        queue.serve(owner, self)

    def __len__(self) -> int:
        """How many Runs it executes."""
        return len(self._live)

    async def recover(self, *, go_on: bool = True) -> int:
        """End the Runs that dead processes left and that cannot go on, and go on with the others,
        before any is accepted; without `go_on` they are left to the next process. Returns how many
        have ended. Raises StoreFailed."""
        return await recover(
            self._queue,
            self._run_events,
            self._store,
            self._catalog,
            self.owner,
            self._clock,
            go_on=go_on,
        )

    def take(self, claim: Claim) -> None:
        live = LiveRun(claim, claim.spec, Inbox(claim.signals))
        self._live[claim.spec.id] = live
        self._idle.clear()
        self._begin(live)
        if self._leases.timer is None:
            self._leases.plan()

    def abort(self, run_id: str, reason: str) -> bool:
        live = self._live.get(run_id)
        return live is not None and self._stop(live, Aborted(reason))

    def deliver(self, run_id: str, signal: Signal) -> None:
        live = self._live.get(run_id)
        if live is not None:
            live.inbox.put(signal)

    def closed(self, spec: RunSpec, ending: Aborted) -> None:
        any_attempt = OpenTurn(spec.session_key, "", spec.id, self._clock(), (), attempt=0)
        self._beside(self._close(spec, any_attempt, ending))

    async def drain(self, grace: float) -> None:
        """Take no more Runs, let those there finish for `grace` seconds, then hand the rest back to
        the queue, or abort those that cannot go on in another process. Runners that do not stop are
        not waited for; Runs that wait for a signal are left alone."""
        self._queue.refuse()
        if await self._is_idle_within(grace):
            return
        for spec in await self._queue.unfinished(waiting=False, here=True):
            if not await self._hand_back(spec.id):
                await self._signals.abort(spec.id, "The Gateway is shutting down.")
        patience = min(self._patience, _LAST_PATIENCE)
        if self._abandoned:  # Those that were handed back: the next process repeats their work.
            await asyncio.wait(self._abandoned, timeout=patience)
        if not await self._is_idle_within(patience):
            for live in list(self._live.values()):
                self._abandon(live, patience)
        await self._idle.wait()  # What is left are turns on their way into the store.

    async def _hand_back(self, run_id: str) -> bool:
        live = self._live.get(run_id)
        if live is not None and (live.committing or live.stopping is not None):
            return False
        try:
            if not await self._queue.hand_back(run_id):
                return False
        except StoreFailed as error:
            logger.warning("a run was not handed back", extra={"run": run_id, "why": error.message})
            return False
        if live is not None:
            self._drop(live)
        return True

    async def _is_idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._queue.idle()
        except TimeoutError:
            return False
        return True

    # One Run

    async def _work(self, live: LiveRun, answered: _Concluding | None = None) -> None:
        """The outermost edge of a Run: whatever ended it becomes its one terminal event."""
        task, end = live.task, None
        ending: Finished | Failed | Aborted | Waiting | None = None
        try:
            if answered is None and (begun := await self._prepare(live)) is not None:
                session_id, context, runner = begun
                # Awaited here, since each coroutine on the way to a runner costs every token.
                end = await self._answer(live, context.spec, session_id, runner.run(context))
                answered = (context.spec, session_id, end) if isinstance(end, Answered) else None
            if answered is not None:
                ending = await self._conclude(live, *answered)
            elif isinstance(end, Waiting):
                ending = end
        except asyncio.CancelledError as error:
            if live.task is not task:
                raise
            ending = live.stopping or Aborted("The run was cancelled.")
            drop_tracebacks(error)
        except LeaseLost as error:
            drop_tracebacks(error)
            self._lose(live)
            return
        except Exception as error:
            if live.task is not task:
                raise
            ending = failure_event(live, error)
            drop_tracebacks(error)
        if live.task is task:
            await self._end(live, ending)

    async def _prepare(self, live: LiveRun) -> tuple[str, RunContext, AgentRunner] | None:
        """What the Run goes on with; None where another attempt has left nothing to do."""
        loop, spec, claim = asyncio.get_running_loop(), live.spec, live.claim
        started = None
        if claim.attempt > 1 and (started := await self._resume(live)) is None:
            return None
        if not self._generations.holds(spec.generation):
            await self._generations.catch_up(spec.generation)
        agent = execution_of(spec, self._generations.find(spec.generation)).agent
        live.runner = agent.runner if spec.command is None else COMMAND_RUNNER
        runner = self._runners[live.runner]
        began = loop.time()
        session_id = ""
        context = RunContext(
            spec, agent, signals=live.inbox, commit=self._commits(live), spent=live.spent
        )
        if spec.command is None:
            await self._store.check_writable()
            if self._unkept:  # The history of this Run may be among them.
                await self._keep_unkept()
            bound = await self._histories.bind(context, runner, live.turn)
            session_id, context, live.history = bound
            if live.turn is None and not spec.is_alone:
                context = await self._histories.with_steps(context)
            live.spec, live.session_id = context.spec, session_id
            if (archive := self._archive(live, session_id, context)) is not None:
                context = replace(context, archive=archive)
        if not started:
            times = Started(queued=claim.queued, history=loop.time() - began)
            await self._run_events.append(claim, (times,))
        if claim.taken_over:
            await self._keep_events(spec.id)
        limit = context.agent.timeout
        if limit is not None:
            live.set_timer(limit, self._run_out_of_time, live, limit)
        return session_id, context, runner

    async def _resume(self, live: LiveRun) -> bool | None:
        """Begin another attempt; whether the Run had started, None where it has ended instead."""
        claim = live.claim
        if claim.taken_over:
            self.take_overs += 1
            decision, record = await decide(claim, self._run_events, self._catalog)
            if not isinstance(decision, Resumed):
                live.committing = True
                await conclude(
                    claim, decision, self._queue, self._run_events, self._store, self._clock()
                )
                return None
            logger.warning(
                "a run was taken over", extra={"run": claim.spec.id, "why": decision.why}
            )
        else:
            record = await self._run_events.find(claim.spec.id)
            decision = Resumed(claim.attempt, 0, "A signal arrived.")
        live.turn = await self._store.open_turn(claim.spec.id, claim.attempt)
        if live.turn is not None or (record is not None and record.last_seq):
            await self._run_events.append(claim, (decision,))
        return record is not None and record.started_at is not None

    async def _keep_events(self, run_id: str) -> None:
        """Return once it is on the disk that the Run is executed: if it kills the process now, that
        counts as a lost attempt."""
        record = await self._run_events.find(run_id)
        if record is None:
            return
        try:
            async for _ in self._run_events.follow_kept(run_id, record.last_seq - 1):
                return
        except StoreFailed as error:  # Runs go on while their events cannot be kept.
            logger.warning("a run goes on unrecorded", extra={"run": run_id, "why": error.message})

    def _archive(self, live: LiveRun, session_id: str, context: RunContext) -> Archive | None:
        """The Archive for this attempt of the Run; None where there is no history, or where that is
        a part of a transcript: a summary is of a whole one."""
        if context.transcript is NOTHING_SAID or live.history is not None:
            return None
        chars = context.agent.max_result_chars
        return _RunArchive(self._store, live, session_id, chars, self._queue, self.owner, live.task)

    def _commits(self, live: LiveRun) -> Commit:
        """The Commit for this attempt of the Run, for when its history is bound."""
        task = live.task
        first = 1 if live.turn is None else max(1, len(live.turn.steps))

        async def commit(journal: Journal) -> None:
            nonlocal first
            spec = live.spec
            if live.stopping is not None or live.task is not task:
                raise LeaseLost(f"Run {spec.id!r} is not this runner's any more.")
            turn = live.turn or OpenTurn(
                key=spec.session_key,
                session_id=live.session_id,
                run_id=spec.id,
                at=self._clock(),
                question=spec.messages,
                attempt=live.claim.attempt,
                one_off=spec.one_off,
                history=live.history,
            )
            for number in range(first, len(journal.steps) + 1):
                await self._store.append_step(turn, number, journal.steps[number - 1])
                live.turn, first = turn, number

        return commit

    async def _answer(
        self,
        live: LiveRun,
        spec: RunSpec,
        session_id: str,
        answer: AsyncGenerator[RunnerEvents],
    ) -> Answered | Waiting:
        end: Answered | Waiting | None = None
        task, claim = live.task, live.claim
        async with aclosing(answer):
            async for yielded in answer:
                if live.stopping is not None or live.task is not task:
                    break  # The runner swallowed its cancellation; what it does is void.
                # A list is the usual case, and a call for each costs every token.
                batch: Sequence[Any] = yielded if type(yielded) is list else _batch_of(yielded)
                if not batch:
                    continue
                last = batch[-1]
                if isinstance(last, _ENDS):
                    if len(batch) > 1:
                        await self._run_events.append(claim, batch[:-1])
                    end = last
                    if isinstance(last, Answered):
                        live.set_timer(
                            self._patience,
                            self._conclude_without_runner,
                            live,
                            (spec, session_id, last),
                        )
                    break
                await self._run_events.append(claim, batch)
        if live.stopping is not None or live.task is not task:
            raise asyncio.CancelledError
        live.clear_timer()
        if end is None:
            raise RunFailed("The agent ended without an answer.")
        return end

    async def _conclude(
        self, live: LiveRun, spec: RunSpec, session_id: str, answered: Answered
    ) -> Finished:
        live.committing = True
        if spec.command is not None:
            return answered.end
        # Another attempt may have begun: a turn that is stored decides how the Run has ended.
        if await self._queue.renew(self.owner, (live.claim,)):
            raise LeaseLost(f"The lease of run {spec.id!r} was lost.")
        await self._commit(live, spec, session_id, answered)
        return answered.end

    async def _commit(
        self, live: LiveRun, spec: RunSpec, session_id: str, answered: Answered
    ) -> None:
        hands_out = answered.stop is StopReason.TOOL_CALLS
        if live.turn is None and not hands_out and _is_temporary(spec):
            return
        question = without_resent_pictures(spec.messages) if spec.is_alone else spec.messages
        turn = Turn(
            key=spec.session_key,
            session_id=session_id or self._new_id(),
            run_id=spec.id,
            at=self._clock(),
            messages=(*question, *answered.messages),
            model=answered.model,
            usage=answered.usage,
            one_off=spec.one_off,
            stop=answered.stop,
            attempt=live.claim.attempt,
            history=live.history,
        )
        await self._store.append(turn)
        if content_log.isEnabledFor(logging.INFO):
            said = [f"{message.role}: {message.text}" for message in turn.messages]
            content_log.info("a turn was stored", extra={"run": spec.id, "messages": said})

    # Stopping

    def _run_out_of_time(self, live: LiveRun, limit: float) -> None:
        error = RunTimedOut(f"The run took longer than the {limit:g} s it may.")
        self._stop(live, failed_event(error))

    def _stop(self, live: LiveRun, ending: Aborted | Failed) -> bool:
        """Cancel the Run, to end with that event. False when it is ending already."""
        if live.task is None or live.committing or live.stopping is not None:
            return False
        if not live.task.cancel():
            return False
        live.stopping = ending
        live.set_timer(self._patience, self._abandon, live, self._patience)
        return True

    def _abandon(self, live: LiveRun, patience: float) -> None:
        """End a Run that was stopped without waiting for its runner any longer."""
        if live.stopping is not None and self._disown(live):
            self._note_abandoned(live, patience)
            self._beside(self._end(live, abandoned_event(live.stopping, patience)))

    def _conclude_without_runner(self, live: LiveRun, answered: _Concluding) -> None:
        """The answer is complete, but its runner does not end: store the answer all the same."""
        if self._disown(live):
            self._note_abandoned(live, self._patience)
            live.committing = True
            self._begin(live, answered)

    def _disown(self, live: LiveRun) -> bool:
        """Take the Run from its task, which goes on. False when the task has just ended."""
        task = live.task
        if task is None or task.done():
            return False
        live.task = None
        self._abandoned.add(task)
        task.cancel()
        return True

    def _note_abandoned(self, live: LiveRun, patience: float) -> None:
        logger.error(
            "a runner did not stop and was abandoned",
            extra={"run": live.spec.id, "runner": live.runner, "seconds": patience},
        )

    def _begin(self, live: LiveRun, answered: _Concluding | None = None) -> None:
        # In a context of its own: a Run and what it starts do not keep the request that began it.
        name = f"run {live.spec.id}"
        live.task = asyncio.create_task(self._work(live, answered), name=name, context=Context())
        # Not in the task itself: a task cancelled before its first step never runs a line of it.
        live.task.add_done_callback(partial(self._settle, live))

    def _settle(self, live: LiveRun, task: asyncio.Task[None]) -> None:
        if task in self._abandoned:
            self._abandoned.discard(task)
            error = None if task.cancelled() else task.exception()
            extra = {"run": live.spec.id, "runner": live.runner}
            logger.warning("an abandoned runner has ended", exc_info=error, extra=extra)
        elif live.task is task:  # It was cancelled before its first step.
            self._beside(self._end(live, live.stopping or Aborted("The run was cancelled.")))
        drop_traceback_of(task)

    async def _end(
        self, live: LiveRun, ending: Finished | Failed | Aborted | Waiting | None
    ) -> None:
        self._forget(live)
        is_keys = live.spec.principal_id.startswith(KEY_PRINCIPAL)
        if is_keys and self._on_stop is not None and ending is not None:
            final = None if isinstance(ending, Waiting) else ending
            self._on_stop(live.spec, final, live.turn, live.spent)
        try:
            if isinstance(ending, Waiting):
                await self._queue.wait(live.claim, ending, signals_read=live.inbox.read)
            elif ending is not None:
                if live.turn is not None and not isinstance(ending, Finished):
                    await self._keep_steps(live.turn, ending)
                await self._queue.finish(live.claim, ending)
                if _is_temporary(live.spec):
                    await self._forget_temporary(live.spec, ending)
        except LeaseLost:
            self._note_lost(live)
        except GatewayError:
            logger.exception("the end of a run could not be kept", extra={"run": live.spec.id})
        finally:
            if not self._live:
                self._idle.set()

    async def _close(self, spec: RunSpec, turn: OpenTurn, ending: Aborted) -> None:
        await self._keep_steps(turn, ending)
        if _is_temporary(spec):
            await self._forget_temporary(spec, ending)

    async def _forget_temporary(self, spec: RunSpec, ending: Finished | Failed | Aborted) -> None:
        """Delete what is stored of a conversation that its client does not keep: the steps of the
        Run, and the turns that it has gone on with. What the client has to go on with is kept."""
        if isinstance(ending, Finished) and ending.stop is StopReason.TOOL_CALLS:
            return
        try:
            keys = await self._stored_calls.sessions_of(spec)
            for key in {key for key in keys if is_temporary(key)} | {spec.session_key}:
                await self._catalog.delete(key)
        except GatewayError:
            logger.exception("a temporary session could not be deleted", extra={"run": spec.id})

    async def _keep_steps(self, turn: OpenTurn, ending: Failed | Aborted) -> None:
        """Store what a Run has done that ends without an answer."""
        try:
            await self._store.end_turn(turn, note=note_of(ending), at=self._clock())
        except StoreFailed:  # The next Run stores it, or the next start, which finds the open turn.
            self._unkept[turn.run_id] = replace(turn, question=(), steps=()), ending
            logger.exception("the steps of a run could not be kept", extra={"run": turn.run_id})

    async def _keep_unkept(self) -> None:
        """Store what could not be stored when its Run ended. Raises StoreFailed."""
        for run_id, (turn, ending) in list(self._unkept.items()):
            with suppress(LeaseLost):
                await self._store.end_turn(turn, note=note_of(ending), at=self._clock())
            self._unkept.pop(run_id, None)

    def _forget(self, live: LiveRun) -> None:
        live.clear_timer()
        live.task = None
        if self._live.get(live.spec.id) is live:
            del self._live[live.spec.id]

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, context=Context())
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    # Leases

    def _lose(self, live: LiveRun) -> None:
        """Drop a Run that another owner, or another attempt, has now."""
        if live.task is None:
            return
        self._note_lost(live)
        self._drop(live)
        self._beside(self._leases.show_life())

    def _drop(self, live: LiveRun) -> None:
        """Stop executing the Run without ending it."""
        if live.task is not asyncio.current_task():
            self._disown(live)
        self._forget(live)
        if not self._live:
            self._idle.set()

    def _note_lost(self, live: LiveRun) -> None:
        self.lease_losses += 1
        extra = {"run": live.spec.id, "attempt": live.claim.attempt}
        logger.warning("the lease of a run was lost", extra=extra)


@dataclass(frozen=True, slots=True)
class _RunArchive:
    """The Archive of one attempt of a Run."""

    store: SessionStore
    live: LiveRun
    session_id: str
    result_chars: int
    queue: RunQueue
    owner: str
    task: asyncio.Task[None] | None

    async def load(self, budget: int) -> StoredSession | None:
        key = self.live.spec.session_key
        session = await self.store.load(key, budget, result_chars=self.result_chars)
        return session if session is not None and session.session_id == self.session_id else None

    async def put_summary(self, summary: Summary) -> bool:
        live = self.live
        if (
            live.stopping is not None
            or live.task is not self.task
            or await self.queue.renew(self.owner, (live.claim,))
        ):
            raise LeaseLost(f"Run {live.spec.id!r} is not this runner's any more.")
        return await self.store.put_summary(
            live.spec.session_key,
            self.session_id,
            summary,
            run_id=live.spec.id,
            attempt=live.claim.attempt,
        )


def _is_temporary(spec: RunSpec) -> bool:
    return spec.one_off and is_temporary(spec.session_key)


def _batch_of(yielded: RunnerEvents) -> Sequence[RunnerEvent]:
    return (yielded,) if isinstance(yielded, RUNNER_EVENTS) else yielded
