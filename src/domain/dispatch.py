"""Executes Runs in this process: lane, history, runner, commit, and exactly one terminal event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from .errors import GatewayError, RunFailed, RunTimedOut, ShuttingDown
from .lanes import Lanes, Place
from .model_calls import ReasoningDelta, TextDelta
from .ports import (
    AgentRunner,
    Clock,
    CurrentSettings,
    NewId,
    RunLog,
    SessionStore,
    StoredSession,
    Transcript,
    Turn,
)
from .run_records import record_of
from .runs import CONTENT, Aborted, Answered, Failed, Finished, Run, RunEvent, Started, failed_event
from .send_policy import check_send
from .session_records import SessionSettingsMap
from .session_settings import applied_to
from .sessions import SessionKey, is_stale, unstored

logger = logging.getLogger(__name__)
content_log = logging.getLogger(CONTENT)


@dataclass(slots=True, eq=False)
class _Live:
    """A Run that has no terminal event yet."""

    run: Run
    place: Place
    task: asyncio.Task[Finished] | None = None
    abort_reason: str | None = None
    committing: bool = False
    ended: asyncio.Event | None = None
    """Made when somebody waits for it."""


class LocalDispatcher:
    """RunDispatcher of one process: a task per Run, independent of who follows it."""

    def __init__(
        self,
        *,
        runners: Mapping[str, AgentRunner],
        store: SessionStore,
        run_log: RunLog,
        lanes: Lanes,
        settings: CurrentSettings,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._runners = runners
        self._store = store
        self._run_log = run_log
        self._lanes = lanes
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        self._live: dict[str, _Live] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._live)

    def dispatch(self, run: Run, *, fingerprint: str = "") -> None:
        if self._draining:
            raise ShuttingDown("The Gateway is shutting down and takes no more runs.")
        place = self._lanes.enter(str(run.session_key))
        try:
            self._run_log.open(record_of(run, fingerprint=fingerprint))
        except BaseException:
            place.leave()
            raise
        live = self._live[run.id] = _Live(run, place)
        self._idle.clear()
        live.task = asyncio.create_task(self._execute(live), name=f"run {run.id}")
        # Not in the task itself: a task cancelled before its first step never runs a line of it.
        live.task.add_done_callback(partial(self._settle, live))

    def abort(self, run_id: str, reason: str) -> bool:
        live = self._live.get(run_id)
        if live is None or live.task is None or live.committing or live.abort_reason is not None:
            return False
        if not live.task.cancel():
            return False  # It has ended, and its terminal event is about to be told.
        live.abort_reason = reason
        return True

    def live(self, key: SessionKey | None = None) -> tuple[Run, ...]:
        runs = (live.run for live in self._live.values())
        return tuple(run for run in runs if key is None or run.session_key == key)

    async def ended(self, run_id: str) -> None:
        live = self._live.get(run_id)
        if live is not None:
            live.ended = live.ended or asyncio.Event()
            await live.ended.wait()

    async def drain(self, grace: float) -> None:
        self._draining = True
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            for run_id in list(self._live):
                self.abort(run_id, "The Gateway is shutting down.")
            await self._idle.wait()

    async def _execute(self, live: _Live) -> Finished:
        loop, run = asyncio.get_running_loop(), live.run
        accepted = loop.time()
        with live.place:
            await live.place.turn()
            runner = self._runners[run.agent.runner]
            started = loop.time()
            await self._store.check_writable()
            session, run = await self._bind_history(run, runner)
            times = Started(queued=started - accepted, history=loop.time() - started)
            self._run_log.append(run.id, times)
            transcript = Transcript() if session is None else session.tail
            answered = await self._answer(run, runner.run(run, transcript))
            if live.abort_reason is not None:
                raise asyncio.CancelledError  # The runner swallowed it; nothing may be stored.
            live.committing = True
            await self._commit(run, session, answered)
            return Finished(answered.stop, answered.usage, answered.model)

    async def _bind_history(
        self, run: Run, runner: AgentRunner
    ) -> tuple[StoredSession | None, Run]:
        """The session that the Run goes on with, None for a new transcript; and what it adds."""
        if run.one_off:
            return None, self._set_up(run, {})
        added = replace(run, messages=unstored(run.messages))
        session = await self._store.load(run.session_key, runner.history_budget(added))
        if session is None:
            return None, self._set_up(run, {})
        run = self._set_up(run, session.settings)
        if session.message_count and is_stale(
            run.session_key,
            self._settings().sessions,
            updated_at=session.updated_at,
            now=self._clock(),
        ):
            return None, run
        if not session.message_count:
            return session, run
        return session, replace(run, messages=added.messages)

    def _set_up(self, run: Run, chosen: SessionSettingsMap) -> Run:
        """The Run with what was chosen for its Session, and for itself. Raises SendBlocked."""
        settings = self._settings()
        check_send(run.session_key, settings.sessions.send_policy, chosen.get("sendPolicy"))
        if run.thinking is not None:
            chosen = {**chosen, "thinkingLevel": run.thinking}
        if not chosen:
            return run
        return replace(run, agent=applied_to(run.agent, chosen, settings.models))

    async def _answer(
        self, run: Run, answer: AsyncGenerator[Sequence[TextDelta | ReasoningDelta | Answered]]
    ) -> Answered:
        limit = run.agent.timeout
        try:
            async with asyncio.timeout(limit) as deadline, aclosing(answer):
                async for told in answer:
                    if not told:
                        continue
                    last = told[-1]
                    said = told[:-1] if isinstance(last, Answered) else told
                    if said:
                        self._run_log.append(run.id, *cast(Sequence[RunEvent], said))
                    if isinstance(last, Answered):
                        return last
        except TimeoutError:
            if not deadline.expired():
                raise
            raise RunTimedOut(f"The run took longer than the {limit:g} s it may.") from None
        raise RunFailed("The agent ended without an answer.")

    async def _commit(self, run: Run, session: StoredSession | None, answered: Answered) -> None:
        turn = Turn(
            key=run.session_key,
            session_id=self._new_id() if session is None else session.session_id,
            run_id=run.id,
            at=self._clock(),
            messages=(*run.messages, *answered.messages),
            model=answered.model,
            usage=answered.usage,
            one_off=run.one_off,
        )
        await self._store.append(turn)
        if content_log.isEnabledFor(logging.INFO):
            said = [f"{message.role}: {message.text}" for message in turn.messages]
            content_log.info("a turn was stored", extra={"run": run.id, "messages": said})

    def _settle(self, live: _Live, task: asyncio.Task[Finished]) -> None:
        """The outermost edge of a Run: whatever ended it becomes its one terminal event."""
        live.place.leave()
        del self._live[live.run.id]
        if not self._live:
            self._idle.set()
        self._run_log.append(live.run.id, _terminal(live, task))
        if live.ended is not None:
            live.ended.set()


def _terminal(live: _Live, task: asyncio.Task[Finished]) -> RunEvent:
    if task.cancelled():
        return Aborted(live.abort_reason or "The run was cancelled.")
    error = task.exception()
    if error is None:
        return task.result()
    if not isinstance(error, GatewayError):
        logger.error("a run failed unexpectedly", exc_info=error, extra={"run": live.run.id})
    if live.abort_reason is not None:
        return Aborted(live.abort_reason)  # What failed then is how the runner stopped.
    if isinstance(error, GatewayError):
        return failed_event(error)
    return Failed(GatewayError.code, "The run failed because of an internal error.")
