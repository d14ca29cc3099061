"""Summaries that take the place of the older part of a history."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from ..agents import Agent
from ..concurrency import off_loop
from ..errors import GatewayError, LeaseLost
from ..messages import Message
from ..models import StopReason, Usage
from ..ports import Archive, Clock, RunContext, SessionStore, StoredSession
from ..runs import CompactionEnded, CompactionStarted, RunnerEvent
from ..sessions import (
    SessionKey,
    Summary,
    Transcript,
    cut_point,
    estimate_all,
    history_tokens,
    summary_prompt,
    summary_requests,
    summary_tokens,
)
from .router import ModelAnswer, ModelRouter, Prompt
from .turn import OngoingTurn, history_of

logger = logging.getLogger(__name__)

_MOST_PARTS = 8
"""Parts that an older part of a history is summarised in; what is older still is left out."""
_FEWEST_TOKENS = 256
"""An older part of less is not worth a model call."""
_WORDS = (100, 2_000)
_PAUSE = 600.0
"""Seconds until a Session's history is compacted again after a failure."""
_MOST_FAILED = 1_000


class SummaryRefused(Exception):
    """There is no summary that could take the place of the messages."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Older:
    """The older part of a history: what a summary replaces. `through`: the number of its last
    message in the transcript. `rest`: the messages behind it."""

    history: Transcript
    through: int
    rest: tuple[Message, ...]

    @property
    def tokens(self) -> int:
        return history_tokens(self.history)


@dataclass(frozen=True, slots=True)
class Written:
    """A summary, and the tokens that its model calls took."""

    summary: Summary
    usage: Usage


class Compactor:
    """Has the models of an agent write summaries. `clock` is Unix time."""

    def __init__(self, router: ModelRouter, *, clock: Clock) -> None:
        self._router = router
        self._clock = clock
        self._failed: OrderedDict[SessionKey, float] = OrderedDict()
        """When the histories of these Sessions could not be compacted."""

    def may_compact(self, context: RunContext) -> bool:
        """Whether the Run has a history that can be compacted, and that was not tried in vain a
        moment ago."""
        if context.archive is None or not context.agent.compaction.enabled:
            return False
        failed_at = self._failed.get(context.spec.session_key)
        recently = failed_at is not None and self._clock() - failed_at < _PAUSE
        return bool(context.agent.models) and not recently

    async def write(
        self, run_id: str, agent: Agent, older: Older, *, instructions: str = ""
    ) -> Written:
        """The summary of the older part, which includes the summary before it. `instructions`: of
        the person who asks for it. Raises SummaryRefused, ModelFailed."""
        target = agent.models[0]
        before = older.history.summary
        previous = text = "" if before is None else before.text
        room = _empty_prompt(run_id, agent).room(target, 0)
        words = max(_WORDS[0], min(_WORDS[1], older.tokens // 8, room // 8))
        parts = await off_loop(
            older.tokens * 3,  # Bytes.
            lambda: list(
                summary_requests(previous, older.history.messages, part_tokens=room * 3 // 4)
            ),
        )
        if not older.history.complete or len(parts) > _most_parts(agent):
            parts = parts[-_most_parts(agent) :]
            text = f"{text}\n[Messages behind this point are not part of any summary.]".lstrip()
        usage, model = None, target.ref
        for part in parts:
            system, question = summary_prompt(text, part, instructions=instructions, words=words)
            prompt = Prompt(run_id, agent.id, agent.models, system, Transcript(), question, {})
            answer = await self._answer(prompt)
            text, model = answer.message.text.strip(), answer.model
            usage = answer.usage if usage is None else usage + answer.usage
            if not text:
                raise SummaryRefused(f"The model {model} wrote an empty summary.")
        if usage is None:
            raise SummaryRefused("There is nothing to summarise.")
        summary = Summary(text, older.through, older.tokens, model, self._clock())
        if summary_tokens(summary) >= older.tokens:
            raise SummaryRefused(f"The summary by {model} is not shorter than what it replaces.")
        return Written(summary, usage)

    async def _answer(self, prompt: Prompt) -> ModelAnswer:
        async with aclosing(self._router.call(prompt)) as batches:
            async for batch in batches:
                last = batch[-1]
                if isinstance(last, ModelAnswer):
                    if last.stop is StopReason.CONTENT_FILTER:
                        raise SummaryRefused(f"The model {last.model} withheld the summary.")
                    return last
        raise SummaryRefused("The model ended without a summary.")

    async def compact_session(
        self, session: StoredSession, store: SessionStore, agent: Agent, *, instructions: str
    ) -> tuple[Transcript, int]:
        """Compact the history of a Session beside its Runs: only messages that are stored are
        replaced, and later ones do not change them. Returns the history then, and the tokens of the
        history before. Raises SummaryRefused, ModelFailed, StoreFailed."""
        if not agent.models:
            raise SummaryRefused(f"The agent {agent.id!r} has no model.")
        history = history_of(session.tail, agent)
        tokens = history_tokens(history)
        room = _empty_prompt("", agent).room_to_fill(
            agent.models[0], 0, agent.compaction.reserve_tokens
        )
        older = older_part(session, agent, min(room, tokens))
        if older is None:
            raise SummaryRefused("There is too little to compact.")
        run_id = f"compaction of {session.key}"
        written = await self.write(run_id, agent, older, instructions=instructions)
        summary = written.summary
        if not await store.put_summary(session.key, session.session_id, summary):
            raise SummaryRefused("The session was changed meanwhile.")
        self._failed.pop(session.key, None)
        return Transcript(older.rest, summary=summary), tokens

    async def compact(
        self, turn: OngoingTurn, *, retries: bool = False
    ) -> AsyncGenerator[list[RunnerEvent]]:
        """Compact the history of a turn, unless it fits the window after all. Where that fails, the
        turn goes on with what it has: the router leaves out the oldest messages. `retries`: the
        provider has refused the history as too long.

        A turn that is left with `compacts` unset is not compacted again. Raises LeaseLost.
        """
        context = turn.context
        archive = context.archive
        if archive is None:  # Checked by the caller.
            return
        try:
            older = await self._older(turn, archive, retries=retries)
        except LeaseLost:
            raise
        except (GatewayError, SummaryRefused) as error:
            self._note_failure(turn, error)
            return
        if older is None:
            turn.compacts = False
            return
        before = older.tokens + estimate_all(older.rest)
        yield [CompactionStarted()]
        try:
            written = await self._write_in_time(turn, older)
            turn.spend(written.usage)
            if not await archive.put_summary(written.summary):
                self._pause(context.spec.session_key)  # It is of use in this turn alone.
        except LeaseLost:
            raise
        except (GatewayError, SummaryRefused) as error:
            self._note_failure(turn, error)
            yield [CompactionEnded(before, before, error.message, retries=retries)]
            return
        turn.remember(Transcript(older.rest, summary=written.summary))
        turn.compacts = not retries
        yield [CompactionEnded(before, history_tokens(turn.history), retries=retries)]

    async def _write_in_time(self, turn: OngoingTurn, older: Older) -> Written:
        """As `write`, within the time limit of the Run."""
        context = turn.context
        try:
            async with asyncio.timeout(turn.remaining_seconds()):
                return await self.write(context.spec.id, context.agent, older)
        except TimeoutError as error:
            raise SummaryRefused("The run had no time left for the summary.") from error

    def _note_failure(self, turn: OngoingTurn, error: GatewayError | SummaryRefused) -> None:
        spec = turn.context.spec
        turn.compacts = False
        self._pause(spec.session_key)
        extra = {"run": spec.id, "session": str(spec.session_key), "reason": error.message}
        logger.warning("a history was not compacted", extra=extra)

    def _pause(self, key: SessionKey) -> None:
        self._failed[key] = self._clock()
        self._failed.move_to_end(key)
        if len(self._failed) > _MOST_FAILED:
            self._failed.popitem(last=False)

    async def _older(self, turn: OngoingTurn, archive: Archive, *, retries: bool) -> Older | None:
        """What is to be summarised; None where the history fits, or nothing of it can be."""
        agent = turn.context.agent
        target = agent.models[0]
        session = await archive.load(readable_tokens(agent))
        if session is None:
            return None
        prompt, before = turn.prompt(), turn.history
        room = prompt.room_to_fill(target, prompt.size, agent.compaction.reserve_tokens)
        turn.remember(session.tail)
        tokens = history_tokens(turn.history)
        if turn.history.complete and tokens <= room and not retries:
            return None
        turn.history = before
        # Without the question: a large one must not cost the Session its history for good.
        room = prompt.room_to_fill(
            target, estimate_all(prompt.system), agent.compaction.reserve_tokens
        )
        # A history that the provider refused has more tokens than the estimate.
        return older_part(session, agent, min(room, tokens // 2) if retries else room)


def older_part(session: StoredSession, agent: Agent, room: int) -> Older | None:
    """The older part of a history that has `room` tokens; None where a summary would not pay."""
    history = history_of(session.tail, agent)
    chosen = agent.compaction
    keep = min(chosen.keep_recent_tokens, int(chosen.max_history_share * room))
    cut = cut_point(history.messages, keep)
    through = session.message_count - len(history.messages) + cut
    older = Transcript(history.messages[:cut], history.complete, summary=history.summary)
    if not cut or estimate_all(older.messages) < _FEWEST_TOKENS:
        return None
    return Older(older, through, history.messages[cut:])


def is_crowded(turn: OngoingTurn, prompt: Prompt) -> bool:
    """Whether the history of the turn has to be compacted before this model call."""
    history = turn.history
    if history.complete and not history.messages:
        return False
    agent = turn.context.agent
    room = prompt.room_to_fill(agent.models[0], prompt.size, agent.compaction.reserve_tokens)
    return not history.complete or history_tokens(history) > room


def _most_parts(agent: Agent) -> int:
    return _MOST_PARTS if agent.compaction.in_parts else 1


def readable_tokens(agent: Agent) -> int:
    """Tokens of the newest messages that are read for a summary."""
    window = agent.models[0].context_window if agent.models else 0
    return (_most_parts(agent) + 1) * window


def _empty_prompt(run_id: str, agent: Agent) -> Prompt:
    return Prompt(run_id, agent.id, agent.models, (), Transcript(), (), {})
