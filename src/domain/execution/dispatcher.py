"""Executes Runs in this process: lane, history, runner, commit, and exactly one terminal event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from ..concurrency import drop_traceback_of, shielded
from ..errors import RunFailed, RunTimedOut, SessionBusy, ShuttingDown
from ..models import ReasoningDelta, TextDelta
from ..ports import (
    AgentRunner,
    Clock,
    CurrentSettings,
    NewId,
    RunContext,
    RunLog,
    SessionStore,
    StoredSession,
    Turn,
)
from ..runs import (
    CONTENT,
    Aborted,
    Answered,
    Failed,
    Finished,
    RunEvent,
    RunSpec,
    Started,
    failed_event,
    record_of,
)
from ..sessions import SessionKey, SessionSettingsMap, check_send, is_stale, unstored
from .execution import NOTHING_CHOSEN, execution_of
from .generations import Generations
from .lanes import Lanes
from .live_runs import LiveRun, abandoned_event, terminal_event

logger = logging.getLogger(__name__)
content_log = logging.getLogger(CONTENT)


_PATIENCE = 10.0
"""Seconds that a runner gets to end."""
_LAST_PATIENCE = 2.0
"""The same while the Gateway shuts down, at most."""

T = TypeVar("T")


class LocalDispatcher:
    """RunDispatcher of one process: a task per Run, independent of its followers.

    `patience`: seconds that a runner gets to end once its Run is stopped or its answer is complete.
    After that it is abandoned: the Run ends without it, and nothing that it does counts any more.
    A runner that blocks the event loop itself cannot be abandoned, since nothing else runs then.
    """

    def __init__(
        self,
        *,
        runners: Mapping[str, AgentRunner],
        store: SessionStore,
        run_log: RunLog,
        lanes: Lanes,
        settings: CurrentSettings,
        generations: Generations,
        clock: Clock,
        new_id: NewId,
        patience: float = _PATIENCE,
    ) -> None:
        self._runners = runners
        self._store = store
        self._run_log = run_log
        self._lanes = lanes
        self._settings = settings
        self._generations = generations
        self._clock = clock
        self._new_id = new_id
        self._patience = patience
        self._live: dict[str, LiveRun] = {}
        self._abandoned: set[asyncio.Task[Finished]] = set()
        self._changes: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._live)

    def dispatch(
        self, spec: RunSpec, *, fingerprint: str = "", on_end: Callable[[], None] | None = None
    ) -> None:
        if self._draining:
            raise ShuttingDown("The Gateway is shutting down and takes no more runs.")
        place = self._lanes.enter(str(spec.session_key))
        try:
            self._run_log.open(record_of(spec, fingerprint=fingerprint))
        except BaseException:
            place.leave()
            raise
        live = self._live[spec.id] = LiveRun(spec, place, on_end)
        self._idle.clear()
        self._begin(live, self._execute(live))

    def abort(self, run_id: str, reason: str) -> bool:
        live = self._live.get(run_id)
        return live is not None and self._stop(live, Aborted(reason))

    def live(self, key: SessionKey | None = None) -> tuple[RunSpec, ...]:
        runs = (live.spec for live in self._live.values())
        return tuple(spec for spec in runs if key is None or spec.session_key == key)

    async def ended(self, run_id: str) -> None:
        live = self._live.get(run_id)
        if live is not None:
            live.ended = live.ended or asyncio.Event()
            await live.ended.wait()

    async def change(
        self,
        key: SessionKey,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float,
        stop: str | None = None,
    ) -> T:
        place = self._lanes.enter_to_change(str(key))
        try:
            if stop is not None:
                for spec in reversed(self.live(key)):
                    self.abort(spec.id, stop)
            async with asyncio.timeout(patience):
                await place.turn()
            task = asyncio.create_task(work(), name=f"change of session {key}")
        except TimeoutError:
            place.leave()
            raise SessionBusy(
                f"Session {key} is still active; try again in a moment.", retry_after=patience
            ) from None
        except BaseException:
            place.leave()
            raise
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        # The lane is free once the work is done, not when its caller has stopped waiting.
        task.add_done_callback(lambda _: place.leave())
        return await shielded(task)

    async def drain(self, grace: float) -> None:
        self._draining = True
        if await self._is_idle_within(grace):
            return
        for run_id in list(self._live):
            self.abort(run_id, "The Gateway is shutting down.")
        patience = min(self._patience, _LAST_PATIENCE)
        if not await self._is_idle_within(patience):
            for live in list(self._live.values()):
                self._abandon(live, patience)
            await self._idle.wait()  # What is left are turns on their way into the store.

    async def _is_idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _execute(self, live: LiveRun) -> Finished:
        loop, spec = asyncio.get_running_loop(), live.spec
        accepted = loop.time()
        await live.place.turn()
        agent = execution_of(spec, self._generations.find(spec.generation)).agent
        live.runner = agent.runner
        runner = self._runners[agent.runner]
        started = loop.time()
        await self._store.check_writable()
        session, context = await self._bind_history(RunContext(spec, agent), runner)
        times = Started(queued=started - accepted, history=loop.time() - started)
        self._run_log.append(spec.id, times)
        limit = context.agent.timeout
        if limit is not None:
            live.set_timer(limit, self._run_out_of_time, live, limit)
        answered = await self._answer(live, context.spec, session, runner.run(context))
        return await self._conclude(live, context.spec, session, answered)

    async def _bind_history(
        self, context: RunContext, runner: AgentRunner
    ) -> tuple[StoredSession | None, RunContext]:
        """The session that the Run goes on with, None for a new transcript; and what it adds."""
        spec = context.spec
        if spec.one_off:
            return None, self._set_up(spec, NOTHING_CHOSEN)
        added = replace(spec, messages=unstored(spec.messages))
        budget = runner.history_budget(replace(context, spec=added))
        session = await self._store.load(spec.session_key, budget)
        if session is None:
            return None, self._set_up(spec, NOTHING_CHOSEN)
        if not session.message_count:
            return session, self._set_up(spec, session.settings)
        if is_stale(
            spec.session_key,
            self._settings().sessions,
            updated_at=session.updated_at,
            now=self._clock(),
        ):
            return None, self._set_up(spec, session.settings)
        return session, replace(self._set_up(added, session.settings), transcript=session.tail)

    def _set_up(self, spec: RunSpec, chosen: SessionSettingsMap) -> RunContext:
        """What the runner gets, with what was chosen for the Session. Raises SendBlocked."""
        policy = self._settings().sessions.send_policy
        check_send(spec.session_key, policy, chosen.get("sendPolicy"))
        execution = execution_of(spec, self._generations.find(spec.generation), chosen)
        return RunContext(spec, execution.agent)

    async def _answer(
        self,
        live: LiveRun,
        spec: RunSpec,
        session: StoredSession | None,
        answer: AsyncGenerator[Sequence[TextDelta | ReasoningDelta | Answered]],
    ) -> Answered:
        answered: Answered | None = None
        task = live.task
        async with aclosing(answer):
            async for told in answer:
                if live.stopping is not None:
                    break  # The runner swallowed its cancellation; what it does is void.
                if not told:
                    continue
                last = told[-1]
                said = told[:-1] if isinstance(last, Answered) else told
                if said:
                    self._run_log.append(spec.id, *cast(Sequence[RunEvent], said))
                if isinstance(last, Answered):
                    answered = last
                    live.set_timer(
                        self._patience, self._conclude_without_runner, live, spec, session, last
                    )
                    break
        if live.stopping is not None or live.task is not task:
            raise asyncio.CancelledError
        live.clear_timer()
        if answered is None:
            raise RunFailed("The agent ended without an answer.")
        return answered

    async def _conclude(
        self, live: LiveRun, spec: RunSpec, session: StoredSession | None, answered: Answered
    ) -> Finished:
        live.committing = True
        await self._commit(spec, session, answered)
        return Finished(answered.stop, answered.usage, answered.model)

    async def _commit(
        self, spec: RunSpec, session: StoredSession | None, answered: Answered
    ) -> None:
        turn = Turn(
            key=spec.session_key,
            session_id=self._new_id() if session is None else session.session_id,
            run_id=spec.id,
            at=self._clock(),
            messages=(*spec.messages, *answered.messages),
            model=answered.model,
            usage=answered.usage,
            one_off=spec.one_off,
        )
        await self._store.append(turn)
        if content_log.isEnabledFor(logging.INFO):
            said = [f"{message.role}: {message.text}" for message in turn.messages]
            content_log.info("a turn was stored", extra={"run": spec.id, "messages": said})

    def _run_out_of_time(self, live: LiveRun, limit: float) -> None:
        error = RunTimedOut(f"The run took longer than the {limit:g} s it may.")
        self._stop(live, failed_event(error))

    def _stop(self, live: LiveRun, ending: Aborted | Failed) -> bool:
        """Cancel the Run, to end with that event. False when it is ending already."""
        if live.task is None or live.committing or live.stopping is not None:
            return False
        if not live.task.cancel():
            return False  # It has ended, and its terminal event is about to be appended.
        live.stopping = ending
        live.set_timer(self._patience, self._abandon, live, self._patience)
        return True

    def _abandon(self, live: LiveRun, patience: float) -> None:
        """End a Run that was stopped without waiting for its runner any longer."""
        if live.stopping is not None and self._disown(live, patience):
            self._end(live, abandoned_event(live.stopping, patience))

    def _conclude_without_runner(
        self, live: LiveRun, spec: RunSpec, session: StoredSession | None, answered: Answered
    ) -> None:
        """The answer is complete, but its runner does not end: store the answer all the same."""
        if self._disown(live, self._patience):
            live.committing = True
            self._begin(live, self._conclude(live, spec, session, answered))

    def _disown(self, live: LiveRun, patience: float) -> bool:
        """Take the Run from its task, which goes on. False when the task has just ended."""
        task = live.task
        if task is None or task.done():
            return False
        live.task = None
        self._abandoned.add(task)
        task.cancel()
        logger.error(
            "a runner did not stop and was abandoned",
            extra={"run": live.spec.id, "runner": live.runner, "seconds": patience},
        )
        return True

    def _begin(self, live: LiveRun, execution: Coroutine[Any, Any, Finished]) -> None:
        # In a context of its own: a Run and what it starts do not keep the request that began it.
        live.task = asyncio.create_task(execution, name=f"run {live.spec.id}", context=Context())
        # Not in the task itself: a task cancelled before its first step never runs a line of it.
        live.task.add_done_callback(partial(self._settle, live))

    def _settle(self, live: LiveRun, task: asyncio.Task[Finished]) -> None:
        """The outermost edge of a Run: whatever ended it becomes its one terminal event."""
        if task in self._abandoned:
            self._abandoned.discard(task)
            error = None if task.cancelled() else task.exception()
            extra = {"run": live.spec.id, "runner": live.runner}
            logger.warning("an abandoned runner has ended", exc_info=error, extra=extra)
        else:
            self._end(live, terminal_event(live, task))
        drop_traceback_of(task)

    def _end(self, live: LiveRun, event: RunEvent) -> None:
        live.place.leave()
        live.clear_timer()
        live.task = None
        del self._live[live.spec.id]
        if not self._live:
            self._idle.set()
        if live.on_end is not None:
            live.on_end()
        self._run_log.append(live.spec.id, event)
        if live.ended is not None:
            live.ended.set()
