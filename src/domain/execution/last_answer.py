"""The last model call of a Run that has reached a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from ..errors import ModelFailed
from ..messages import Message, Role, Text, text_message
from ..models import TextDelta, Usage
from ..runs import LimitReached, RunnerEvent, out_of_time
from .router import ModelAnswer, ModelRouter, Prompt, RouterEvent
from .turn import OngoingTurn

_NO_USAGE = Usage(0, 0, estimated=True)


async def call_in_time(
    turn: OngoingTurn, router: ModelRouter, prompt: Prompt, seconds: float
) -> AsyncGenerator[Sequence[RunnerEvent | ModelAnswer]]:
    """The events of the next model call of a Run that may take so many seconds.

    A call that goes on when the time is up is stopped, and the last event is Answered: with the
    text that the model had begun, or else with its answer in words to what the tools have done.
    """
    limit, said = out_of_time(seconds), ""
    async with aclosing(router.call(prompt)) as batches:
        while True:
            try:
                batch = await _next_batch(batches, turn.remaining_seconds() or 0.0)
            except TimeoutError:
                break
            if batch is None:
                return
            yield batch
            said += "".join(event.text for event in batch if isinstance(event, TextDelta))
    turn.use_up_time()
    if turn.journal.steps and not said.strip():
        async with aclosing(answer_in_words(turn, router, limit)) as answering:
            async for events in answering:
                yield events
        return
    rest = f"[The run has reached {limit.what} and ends within the answer]"
    if turn.format is not None:
        rest = ""  # A program reads the answer, and its finish reason.
    elif said:
        rest = f"\n\n{rest}"
    model = next((target.ref for target in turn.context.agent.models), "")
    answer = ModelAnswer(text_message(Role.ASSISTANT, said + rest), limit.stop, _NO_USAGE, model)
    yield [TextDelta(rest), turn.ended_by(answer)]


async def _next_batch(
    batches: AsyncGenerator[Sequence[RouterEvent]], seconds: float
) -> Sequence[RouterEvent] | None:
    """None at the end. Raises TimeoutError."""
    if seconds <= 0:
        raise TimeoutError
    async with asyncio.timeout(seconds):
        return await anext(batches, None)


async def answer_in_words(
    turn: OngoingTurn, router: ModelRouter, limit: LimitReached
) -> AsyncGenerator[list[RunnerEvent]]:
    """Call the model without tools; the last event is Answered, with the stop reason of the limit.

    Where the model gives no answer in words, a sentence about the limit is the answer: tools have
    done their work, and a failed run would be an invitation to do it again.
    """
    journal, prompt = turn.journal, turn.prompt()
    notice = limit.notice if turn.format is None else limit.notice_for_format
    messages = (*prompt.messages, text_message(Role.USER, notice))
    prompt = replace(prompt.without_tools(), messages=messages, can_compact=False)
    said = ""
    nothing = text_message(Role.ASSISTANT, "")
    answer = ModelAnswer(nothing, limit.stop, _NO_USAGE, journal.steps[-1].model)
    why = "the model gave no answer in words"
    try:
        async with aclosing(router.call(prompt)) as batches:
            async for batch in batches:
                deltas: list[RunnerEvent] = []
                for event in batch:
                    if isinstance(event, ModelAnswer):
                        answer = event
                        continue
                    deltas.append(event)
                    if isinstance(event, TextDelta):
                        said += event.text
                if deltas:
                    yield deltas
    except ModelFailed as failure:
        why = f"the call of the model failed: {failure.message}"
    else:
        if said.strip() and not answer.called_tool:
            yield [turn.ended_by(replace(answer, stop=limit.stop))]
            return
    if answer.called_tool:
        why = "the model called a tool again"
    rest = f"[The run has reached {limit.what} and ends without an answer: {why}]"
    if turn.format is not None:
        rest = ""
    elif said:
        rest = f"\n\n{rest}"
    others = [part for part in answer.message.parts if not isinstance(part, Text)]
    message = Message(Role.ASSISTANT, (*others, Text(said + rest)))
    yield [TextDelta(rest), turn.ended_by(replace(answer, message=message, stop=limit.stop))]
