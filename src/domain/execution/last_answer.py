"""The last model call of a Run that has reached a limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from ..errors import ModelFailed
from ..messages import Message, Role, Text, text_message
from ..models import TextDelta, Usage
from ..runs import LimitReached, RunnerEvent
from .router import ModelAnswer, ModelRouter
from .turn import OngoingTurn


async def answer_in_words(
    turn: OngoingTurn, router: ModelRouter, limit: LimitReached
) -> AsyncGenerator[list[RunnerEvent]]:
    """Call the model without tools; the last event is Answered, with the stop reason of the limit.

    Where the model gives no answer in words, a sentence about the limit is the answer: tools have
    done their work, and a failed run would be an invitation to do it again.
    """
    journal, prompt = turn.journal, turn.prompt()
    messages = (*prompt.messages, text_message(Role.USER, limit.notice))
    prompt = replace(prompt, messages=messages, tools=(), drops_calls=True, can_compact=False)
    said = ""
    nothing = text_message(Role.ASSISTANT, "")
    answer = ModelAnswer(nothing, limit.stop, Usage(0, 0, estimated=True), journal.steps[-1].model)
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
    if said:
        rest = f"\n\n{rest}"
    others = [part for part in answer.message.parts if not isinstance(part, Text)]
    message = Message(Role.ASSISTANT, (*others, Text(said + rest)))
    yield [TextDelta(rest), turn.ended_by(replace(answer, message=message, stop=limit.stop))]
