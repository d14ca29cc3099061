"""The turn of a Run while the native loop works on it, and the prompts made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..messages import Message, Role, ToolCall, text_message
from ..models import Price
from ..ports import Clock, RunContext, ToolContext
from ..runs import Answered, Journal, MessageInjected, prompted, shortened_results
from ..sessions import Transcript
from ..tools import ToolSpec
from .router import ModelAnswer, Prompt


@dataclass(slots=True)
class OngoingTurn:
    """`journal` is what the Run has come to; `commit` replaces it. `clock` is monotonic."""

    context: RunContext
    caller: ToolContext
    tools: tuple[ToolSpec, ...]
    journal: Journal
    clock: Clock
    since: float
    """From when on time is not in the journal yet."""
    history: Transcript
    """What was said before, as a model gets it."""
    is_waiting: bool = False
    """This attempt of the Run is over: a decision lets the next one go on."""

    @property
    def specs(self) -> Mapping[str, ToolSpec]:
        """The tools by name."""
        return {spec.name: spec for spec in self.tools}

    @property
    def call_ids(self) -> set[str]:
        """The ids of all earlier calls in the conversation."""
        messages = (*self.history.messages, *self.journal.messages)
        return {part.id for one in messages for part in one.parts if isinstance(part, ToolCall)}

    @property
    def prices(self) -> Mapping[str, Price]:
        """The known prices of the agent's models, where its limits need them."""
        agent = self.context.agent
        if agent.limits.cost is None:
            return {}
        return {model.ref: model.price for model in agent.models if model.price.known}

    async def commit(self, journal: Journal) -> None:
        """Store the journal, with the time since the last commit. Raises LeaseLost, StoreFailed."""
        now = self.clock()
        journal = journal.with_seconds(now - self.since)
        self.since = now
        await self.context.commit(journal)
        self.journal = journal

    def remaining_seconds(self) -> float | None:
        """How long the Run may still take; None: as long as it needs."""
        limit = self.context.agent.limits.seconds
        if limit is None:
            return None
        return limit - self.journal.seconds - (self.clock() - self.since)

    def use_up_time(self) -> None:
        """Count the time as used up: the timer of the event loop may be a little early."""
        remaining = self.remaining_seconds()
        if remaining is not None and remaining > 0:
            self.since -= remaining

    def injected(self) -> tuple[Message, ...]:
        """The messages that have arrived. Other signals need no reading: decisions are in the
        ApprovalBook."""
        messages = []
        while (signal := self.context.signals.take()) is not None:
            if isinstance(signal, MessageInjected):
                messages.append(signal.message)
        return tuple(messages)

    def key(self, call_id: str) -> str:
        """Names a call of the last step, the same in every attempt of the Run."""
        return f"{self.context.spec.id}:{len(self.journal.steps)}:{call_id}"

    def prompt(self) -> Prompt:
        """The next model call."""
        messages = prompted(self.journal, self.context.agent.max_result_chars)
        return prompt_of(self.context, self.history, messages, self.tools)

    def ended_by(self, answer: ModelAnswer) -> Answered:
        """The end of the Run: its steps and the answer, for the transcript."""
        journal = self.journal
        if not journal.steps:
            return Answered((answer.message,), answer.stop, answer.usage, answer.model)
        messages = (*journal.messages[len(journal.question) :], answer.message)
        used = journal.usage
        usage = answer.usage if used is None else used + answer.usage
        return Answered(messages, answer.stop, usage, answer.model)


def history_of(context: RunContext) -> Transcript:
    """The transcript with long tool results shortened."""
    transcript = context.transcript
    if not transcript.messages:
        return transcript
    messages = shortened_results(transcript.messages, context.agent.max_result_chars)
    if messages is transcript.messages:
        return transcript
    return Transcript(messages, transcript.complete)


def prompt_of(
    context: RunContext,
    history: Transcript,
    messages: tuple[Message, ...],
    tools: tuple[ToolSpec, ...] = (),
) -> Prompt:
    """A model call of the Run's agent."""
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
