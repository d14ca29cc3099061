"""The native AgentRunner: a turn as steps, each a model call, until the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from ..errors import RunFailed
from ..messages import Message, Role, text_message
from ..ports import RunContext
from ..runs import Answered, CallModel, Finish, Journal, RunnerEvent, next_action
from ..sessions import Transcript
from .router import ModelAnswer, ModelRouter, Prompt

_MAX_STEPS = 50
"""Model calls of one Run that may lead to further ones."""


class TurnLoop:
    """Does what `next_action` says, from the journal of the Run, until the answer is there."""

    def __init__(self, router: ModelRouter) -> None:
        self._router = router

    def history_budget(self, context: RunContext) -> int:
        prompt = _prompt(context, Transcript(), context.spec.messages)
        size = prompt.size
        return max((prompt.room(target, size) for target in prompt.models), default=0)

    async def run(self, context: RunContext) -> AsyncGenerator[Sequence[RunnerEvent]]:
        journal = Journal(context.spec.messages)
        while isinstance(action := next_action(journal, max_steps=_MAX_STEPS), CallModel):
            prompt = _prompt(context, context.transcript, journal.messages)
            async with aclosing(self._router.call(prompt)) as batches:
                async for batch in batches:
                    last = batch[-1]
                    if not isinstance(last, ModelAnswer):
                        yield batch  # type: ignore[misc]  # Deltas: only the last is none.
                        continue
                    journal = replace(journal, answer=last.message)
                    answered = Answered((last.message,), last.stop, last.usage, last.model)
                    # Within the call: to close it may take longer than the answer should wait.
                    yield [*batch[:-1], answered]  # type: ignore[list-item]
                    break
            if journal.answer is None:
                return  # The call ended without an answer, and so does this turn.
        if not isinstance(action, Finish):
            raise RunFailed(f"The native runner cannot do this step: {action}.")


def _prompt(context: RunContext, history: Transcript, messages: tuple[Message, ...]) -> Prompt:
    spec, agent = context.spec, context.agent
    return Prompt(spec.id, agent.id, agent.models, _system(context), history, messages, spec.params)


def _system(context: RunContext) -> tuple[Message, ...]:
    """The agent's instructions first, then the request's own layer, as one system message.

    One, because many chat templates accept a single system message at the start only.
    """
    layers = [context.agent.instructions, *(message.text for message in context.spec.instructions)]
    text = "\n\n".join(layer for layer in layers if layer.strip())
    return (text_message(Role.SYSTEM, text),) if text else ()
