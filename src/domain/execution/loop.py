"""The native AgentRunner: a turn as steps, each a model call, until the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import assert_never

from ..errors import RunFailed
from ..messages import Message, Role, text_message
from ..models import Usage
from ..ports import RunContext, Toolbox
from ..runs import (
    Answered,
    AwaitDecisions,
    CallModel,
    Finish,
    Journal,
    RecordResults,
    RunCalls,
    RunnerEvent,
    Step,
    StepLimit,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    next_action,
    result_of,
)
from ..sessions import Transcript
from ..tools import ToolOutput, ToolResult, ToolSpec
from .router import ModelAnswer, ModelRouter, Prompt

_MAX_STEPS = 50
"""Model calls of one Run that may lead to further ones."""
_MOST_SHOWN = 8_192
"""Characters of a tool's result that followers get; the model gets all of it."""


class TurnLoop:
    """Does what `next_action` says, from the journal of the Run, until the answer is there."""

    def __init__(
        self, router: ModelRouter, toolbox: Toolbox, *, max_steps: int = _MAX_STEPS
    ) -> None:
        self._router = router
        self._toolbox = toolbox
        self._max_steps = max_steps

    def history_budget(self, context: RunContext) -> int:
        prompt = _prompt(context, Transcript(), context.spec.messages)
        size = prompt.size
        return max((prompt.room(target, size) for target in prompt.models), default=0)

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        tools = tuple(await self._toolbox.tools(context.agent))
        journal = Journal(context.spec.messages)
        usage: Usage | None = None
        while True:
            action = next_action(journal, max_steps=self._max_steps)
            match action:
                case CallModel():
                    prompt = _prompt(context, context.transcript, journal.messages, tools)
                    answer = None
                    async with aclosing(self._router.call(prompt)) as batches:
                        async for batch in batches:
                            last = batch[-1]
                            if not isinstance(last, ModelAnswer):
                                yield batch  # type: ignore[misc]  # Deltas: only the last is none.
                                continue
                            answer = last
                            usage = last.usage if usage is None else usage + last.usage
                            step = Step(last.message)
                            if step.calls:
                                journal = replace(journal, steps=(*journal.steps, step))
                                if len(batch) > 1:
                                    yield batch[:-1]  # type: ignore[misc]  # The same.
                                break
                            said = (*journal.messages[len(journal.question) :], last.message)
                            answered = Answered(said, last.stop, usage, last.model)
                            # Within the call: closing it may take longer than the answer should.
                            yield [*batch[:-1], answered]  # type: ignore[list-item]
                            return
                    if answer is None:
                        return  # The call ended without an answer, and so does this turn.
                case RunCalls(calls=calls):
                    for call in calls:
                        key = f"{context.spec.id}:{len(journal.steps)}:{call.id}"
                        yield [ToolStarted(call.id, call.name, call.arguments)]
                        result = ToolResult("The tool ended without a result.", is_error=True)
                        run = self._toolbox.run(context.agent, call, key=key)
                        async with aclosing(run) as outputs:
                            async for output in outputs:
                                if isinstance(output, ToolOutput):
                                    yield [ToolProgress(call.id, output.text)]
                                    continue
                                result = output
                                break
                        shown = shortened(result.text)
                        yield [ToolFinished(call.id, result.is_error, shown)]
                        journal = journal.with_results(result_of(call, result.text))
                case RecordResults(results=results):
                    journal = journal.with_results(*results)
                case StepLimit(steps=steps):
                    raise RunFailed(f"The run made {steps} steps without an answer: its limit.")
                case AwaitDecisions() | Finish():
                    raise RunFailed(f"The native runner cannot do this step: {action}.")
                case _:
                    assert_never(action)


def shortened(text: str) -> str:
    """The text as followers get it."""
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "\u2026"


def _prompt(
    context: RunContext,
    history: Transcript,
    messages: tuple[Message, ...],
    tools: tuple[ToolSpec, ...] = (),
) -> Prompt:
    spec, agent = context.spec, context.agent
    system = _system(context)
    return Prompt(spec.id, agent.id, agent.models, system, history, messages, spec.params, tools)


def _system(context: RunContext) -> tuple[Message, ...]:
    """The agent's instructions first, then the request's own layer, as one system message.

    One, because many chat templates accept a single system message at the start only.
    """
    layers = [context.agent.instructions, *(message.text for message in context.spec.instructions)]
    text = "\n\n".join(layer for layer in layers if layer.strip())
    return (text_message(Role.SYSTEM, text),) if text else ()
