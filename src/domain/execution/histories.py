"""The history of a Run: the transcript that it adds to, and what its question becomes with it."""

from __future__ import annotations

from dataclasses import replace

from ..errors import TurnNotStored, Unavailable
from ..messages import Message, Role
from ..ports import (
    AgentRunner,
    Clock,
    CurrentSettings,
    NewId,
    OpenTurn,
    RunContext,
    SessionCatalog,
    SessionStore,
    StoredSession,
)
from ..runs import Journal
from ..sessions import (
    SessionSettingsMap,
    Span,
    check_send,
    is_stale,
    tidied,
    unstored,
    with_call_ids,
)
from .client_calls import StoredCalls, check_results
from .execution import NOTHING_CHOSEN, execution_of
from .generations import Generations
from .resent import ResentHistory, is_whole


class RunHistories:
    """Binds Runs to their transcripts. `clock` is Unix time."""

    def __init__(
        self,
        store: SessionStore,
        catalog: SessionCatalog,
        calls: StoredCalls,
        settings: CurrentSettings,
        generations: Generations,
        *,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._resent = ResentHistory(store, catalog)
        self._calls = calls
        self._settings = settings
        self._generations = generations
        self._clock = clock
        self._new_id = new_id

    async def bind(
        self, context: RunContext, runner: AgentRunner, turn: OpenTurn | None
    ) -> tuple[str, RunContext, Span | None]:
        """The transcript that the Run adds to, empty for a new one; the Run with its history; and
        where that is stored, if it is not all of the transcript. `turn`: what earlier attempts have
        stored, whose question stays the same."""
        if turn is not None:
            return await self._bind_again(context, runner, turn)
        spec = context.spec
        if spec.after_run:
            return await self._bind_after(context, runner)
        if spec.one_off:
            return "", self._set_up(context, NOTHING_CHOSEN), None
        added, new, whole = context, spec.messages, is_whole(spec)
        if whole:
            context = _with_question(context, tidied(spec.messages))
            new = unstored(context.spec.messages)
            added = _with_question(context, new)
        chars = context.agent.max_result_chars
        budget = runner.history_budget(added)
        session = await self._store.load(spec.session_key, budget, result_chars=chars)
        if session is None:
            return "", self._set_up(context, NOTHING_CHOSEN), None
        if not session.message_count:
            return session.session_id, self._set_up(context, session.settings), None
        if is_stale(
            spec.session_key,
            self._settings().sessions,
            updated_at=session.updated_at,
            now=self._clock(),
        ):
            return self._new_id(), self._set_up(context, session.settings), None
        session_id, transcript, span = session.session_id, session.tail, None
        fresh = await self._fresh(context, session)
        if whole or any(message.role is Role.TOOL for message in new):
            sent = context.spec.messages
            bound = await self._resent.bind(sent, session, budget, chars, whole=whole)
            if bound is not None:
                new, transcript, span = bound.question, bound.transcript, bound.span
        if span is not None:
            fresh = None if fresh is None else max(0, fresh + span.through - session.message_count)
            if span.through < session.message_count:
                session_id = self._new_id()
                self._resent.branched(span, session_id)
        context = _with_question(context, with_call_ids(transcript.messages, new))
        context = replace(context, transcript=transcript, fresh=fresh)
        return session_id, self._set_up(context, session.settings), span

    async def _bind_after(
        self, context: RunContext, runner: AgentRunner
    ) -> tuple[str, RunContext, Span | None]:
        """The same for a Run that follows the turn of another one: a branch where that turn is not
        the newest one of the Session. Raises TurnNotStored."""
        spec, chars = context.spec, context.agent.max_result_chars
        budget = runner.history_budget(context)
        span = await self._catalog.span(spec.after_run)
        session = await self._store.load(spec.session_key, budget, result_chars=chars)
        if span is None or session is None:
            raise TurnNotStored(
                f"The run {spec.after_run!r} has no stored answer that this request could follow."
            )
        session_id, transcript, history = session.session_id, session.tail, None
        if (session_id, session.message_count) != (span.session_id, span.through):
            session_id, history = self._new_id(), replace(span, exact=True)
            transcript = await self._resent.read(session, span, budget, chars)
        question = with_call_ids(transcript.messages, spec.messages)
        context = replace(_with_question(context, question), transcript=transcript)
        return session_id, self._set_up(context, session.settings), history

    async def _bind_again(
        self, context: RunContext, runner: AgentRunner, turn: OpenTurn
    ) -> tuple[str, RunContext, Span | None]:
        """The same for a Run with steps, which adds to the transcript that it began with."""
        spec = replace(context.spec, messages=turn.question)
        context = replace(context, spec=spec, stored=Journal(turn.question, turn.steps))
        if spec.is_alone:
            return turn.session_id, self._set_up(context, NOTHING_CHOSEN), None
        chars = context.agent.max_result_chars
        budget = runner.history_budget(context)
        session = await self._store.load(spec.session_key, budget, result_chars=chars)
        if session is None:
            return turn.session_id, self._set_up(context, NOTHING_CHOSEN), turn.history
        session_id = turn.session_id or session.session_id
        if turn.history is not None:
            transcript = await self._resent.read(session, turn.history, budget, chars)
            context = replace(context, transcript=transcript)
        elif session.session_id == session_id:
            fresh = await self._fresh(context, session)
            context = replace(context, transcript=session.tail, fresh=fresh)
        return session_id, self._set_up(context, session.settings), turn.history

    async def with_steps(self, context: RunContext) -> RunContext:
        """The Run with the steps of its question that its client knows in part. Raises
        InvalidRequest, StoreFailed."""
        spec, history = context.spec, context.transcript.messages
        if not any(message.role is Role.TOOL for message in spec.messages):
            return context
        messages = await self._calls.completed(
            spec.messages, agent_id=spec.agent_id, principal=spec.principal, history=history
        )
        check_results(messages, history)
        return _with_question(context, messages)

    async def _fresh(self, context: RunContext, session: StoredSession) -> int | None:
        """See RunContext.fresh."""
        pruning = context.agent.pruning
        if pruning is None:
            return None
        if self._clock() - session.updated_at >= pruning.ttl:
            return 0
        try:
            return await self._catalog.messages_since_pause(session.key, pruning.ttl)
        except Unavailable:  # The store has no catalog.
            return None

    def _set_up(self, context: RunContext, chosen: SessionSettingsMap) -> RunContext:
        """The context with what was chosen for the Session. Raises SendBlocked."""
        spec = context.spec
        policy = self._settings().sessions.send_policy
        check_send(spec.session_key, policy, chosen.get("sendPolicy"))
        if not chosen and spec.thinking is None:
            return context
        execution = execution_of(spec, self._generations.find(spec.generation), chosen)
        return replace(context, agent=execution.agent)


def _with_question(context: RunContext, messages: tuple[Message, ...]) -> RunContext:
    if messages is context.spec.messages:
        return context
    return replace(context, spec=replace(context.spec, messages=messages))
