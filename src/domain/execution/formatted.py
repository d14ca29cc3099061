"""Answers in a format that the client requires: withheld until they are checked, repaired once."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from ..concurrency import LARGE, off_loop
from ..errors import InvalidRequest, InvalidStructuredOutput
from ..messages import Message, Role, Text, text_message
from ..models import ReasoningDelta, StopReason, TextDelta
from ..ports import Spent
from ..runs import (
    CONTEXT_EVENTS,
    SCHEMA_PARAM,
    TERMINAL,
    Answered,
    AnswerFormat,
    CheckValue,
    ClientCalls,
    CompileSchema,
    Resumed,
    RunnerEvent,
    Started,
    Step,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
    limit_reached,
)
from .last_answer import call_in_time
from .router import ModelAnswer, ModelRouter, RouterEvent
from .turn import OngoingTurn

logger = logging.getLogger(__name__)

_CUT = (StopReason.LENGTH, StopReason.CONTENT_FILTER)
_SPENT = (StopReason.MAX_COST, StopReason.MAX_OUTPUT_TOKENS)


async def schema_check(
    wanted: AnswerFormat | None, compile_schema: CompileSchema
) -> CheckValue | None:
    """The check of the format's schema. Raises InvalidRequest for a schema that cannot be used."""
    if wanted is None or wanted.schema is None or not wanted.strict:
        return None
    try:
        # A small schema takes milliseconds, and the first one loads a library.
        return await off_loop(LARGE, partial(compile_schema, wanted.schema))
    except ValueError as error:
        problem = str(error)
    raise InvalidRequest(f"Invalid schema for response_format: {problem}", param=SCHEMA_PARAM)


@consumes(
    TextDelta,
    ClientCalls,
    StepDone,
    ignores=(
        *(ReasoningDelta, ToolStarted, ToolProgress, ToolFinished, *CONTEXT_EVENTS),
        *(Started, Waiting, Resumed, *TERMINAL),
    ),
)
async def withheld(
    events: AsyncGenerator[Sequence[RunnerEvent]], spent: Spent
) -> AsyncGenerator[Sequence[RunnerEvent]]:
    """The events without text; the text of the last message comes whole before the end. What a
    model writes beside calls of the agent's tools is no part of the answer. What was left out of
    the last model call is noted in `spent`."""
    refusal = False
    async with aclosing(events):
        async for batch in events:
            kept = list[RunnerEvent]()
            for event in batch:
                if isinstance(event, TextDelta):
                    refusal = refusal or event.refusal
                    spent.withheld += len(event.text.encode("utf-8", "surrogatepass"))
                    continue
                if isinstance(event, StepDone):
                    spent.withheld, refusal = 0, False  # The step has its usage.
                kept.append(event)
            if kept and isinstance(answered := kept[-1], Answered):
                last = (one for one in reversed(answered.messages) if one.role is Role.ASSISTANT)
                if text := next(last).text:
                    at = next(
                        i for i, e in enumerate(kept) if isinstance(e, ClientCalls | Answered)
                    )
                    kept.insert(at, TextDelta(text, refusal))
            if kept:
                yield kept


async def checked_answer(
    turn: OngoingTurn, router: ModelRouter, answer: ModelAnswer
) -> AsyncGenerator[Sequence[RunnerEvent]]:
    """The end of a turn whose answer has a format; the last event is Answered. An answer that
    breaks the format goes to the model once more, with what is wrong.

    An answer that was cut off is as it is: its stop reason says so, and another call would be cut
    off, too. Raises InvalidStructuredOutput, ModelFailed.
    """
    answer, problem = await _read(turn, answer)
    if problem is None:
        yield [turn.ended_by(answer)]
        return
    limit = _limit_with(turn, answer)
    _refuse(turn, answer)
    if limit:
        raise _invalid(answer, f"{problem}. It was not repaired, because of {limit}")
    extra = {"run": turn.context.spec.id, "model": answer.model}
    logger.info("an answer is repaired: it does not have the required format", extra=extra)
    repaired: ModelAnswer | None = None
    async with aclosing(_repair(turn, router, answer, problem)) as batches:
        async for batch in batches:
            if isinstance(last := batch[-1], ModelAnswer):
                repaired = last
                batch = batch[:-1]
            if batch:
                yield batch  # type: ignore[misc]  # No ModelAnswer.
            if repaired is not None:
                break
    if repaired is None:
        return  # The time was up, and the last event was the end.
    repaired, problem = await _read(turn, repaired)
    if problem is not None:
        _refuse(turn, repaired)
        raise _invalid(repaired, f"{problem}. It was repaired once")
    if repaired.called_tool and repaired.stop not in _CUT:
        repaired = replace(repaired, stop=StopReason.STOP)  # The call was left out.
    yield [turn.ended_by(repaired)]


async def _read(turn: OngoingTurn, answer: ModelAnswer) -> tuple[ModelAnswer, str | None]:
    """The answer without a code fence, and what is wrong with it."""
    if turn.format is None or answer.stop in _CUT:
        return answer, None
    text = answer.message.text
    # The check of a schema takes longer than reading the text.
    size = len(text) if turn.check is None else LARGE
    read, problem = await off_loop(size, partial(turn.format.read, text, turn.check))
    if problem is None and read is not text:
        others = (part for part in answer.message.parts if not isinstance(part, Text))
        answer = replace(answer, message=Message(Role.ASSISTANT, (*others, Text(read))))
    return answer, problem


def _limit_with(turn: OngoingTurn, answer: ModelAnswer) -> str:
    """The limit that leaves no room for another call after this answer; empty: none."""
    step = Step(answer.message, usage=answer.usage, model=answer.model)
    journal = turn.journal.with_step(step)
    limit = limit_reached(journal, turn.context.agent.limits, turn.prices)
    return limit.what if limit is not None and limit.stop in _SPENT else ""


def _repair(
    turn: OngoingTurn, router: ModelRouter, answer: ModelAnswer, problem: str
) -> AsyncGenerator[Sequence[RunnerEvent | ModelAnswer]] | AsyncGenerator[Sequence[RouterEvent]]:
    notice = (
        f"[This answer does not have the required format: {problem}. Send the whole answer again, "
        "as JSON in the required format and nothing else: no explanation, no code fence.]"
    )
    prompt = turn.prompt().without_tools()
    messages = [*prompt.messages, text_message(Role.USER, notice)]
    if answer.message.text.strip():
        messages.insert(-1, answer.message)
    prompt = replace(prompt, messages=tuple(messages), can_compact=False)
    seconds = turn.context.agent.limits.seconds
    if seconds is None:
        return router.call(prompt)
    return call_in_time(turn, router, prompt, seconds)


def _refuse(turn: OngoingTurn, answer: ModelAnswer) -> None:
    """Count what was used for an answer that is no step of the turn."""
    turn.spend(answer.usage)
    spent = turn.context.spent
    spent.usage, spent.model, spent.withheld = turn.overhead, answer.model, 0


def _invalid(answer: ModelAnswer, problem: str) -> InvalidStructuredOutput:
    return InvalidStructuredOutput(
        f"The answer of the model {answer.model} does not have the format that the "
        f"request requires: {problem}."
    )
