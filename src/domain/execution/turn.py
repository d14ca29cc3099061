"""The turn of a Run while the native loop works on it, and the prompts made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..agents import Agent
from ..messages import Message, Role, ToolCall, text_message
from ..models import Price, StopReason, Usage
from ..ports import Clock, RunContext, ToolContext
from ..runs import (
    Answered,
    AnswerFormat,
    CheckValue,
    Journal,
    MessageInjected,
    Pruned,
    prompted,
)
from ..sessions import Transcript, estimate_all, pruned, relieved, saved_by, shortened_results
from ..tools import OfferedTools, ToolSpec
from .router import ModelAnswer, Prompt

NO_TOOLS = OfferedTools((), {})


@dataclass(slots=True)
class OngoingTurn:
    """`journal` is what the Run has come to; `commit` replaces it. `clock` is monotonic."""

    context: RunContext
    caller: ToolContext
    tools: OfferedTools
    journal: Journal
    clock: Clock
    since: float
    """From when on time is not in the journal yet."""
    history: Transcript = field(init=False)
    """What was said before, as a model gets it."""
    pruned: Pruned | None = None
    """What is left out of old results, until it is yielded."""
    _left_out: int = 0
    """Results of steps that are left out."""
    compacts: bool = False
    """A summary may take the place of older history."""
    overhead: Usage | None = None
    """The tokens of summaries."""
    is_waiting: bool = False
    """This attempt of the Run is over: a decision lets the next one go on."""

    format: AnswerFormat | None = None
    """The format that the answer has to have."""
    check: CheckValue | None = None
    """The check of the format's schema."""

    def __post_init__(self) -> None:
        self.remember(self.context.transcript)

    def remember(self, transcript: Transcript) -> None:
        """Take the transcript as the history, with long results shortened and old ones pruned."""
        agent, fresh = self.context.agent, self.context.fresh
        self.history, self.pruned = history_of(transcript, agent), None
        if fresh is None or agent.pruning is None or not agent.models:
            return
        whole = self.history.messages
        cold, window = max(0, len(whole) - fresh), agent.models[0].context_window
        kept = pruned(whole, cold, agent.pruning, window)
        if kept is not whole:
            self.pruned = Pruned(*saved_by(kept, whole))
            self.history = Transcript(kept, transcript.complete, summary=transcript.summary)

    @property
    def specs(self) -> Mapping[str, ToolSpec]:
        """The tools by name."""
        return {spec.name: spec for spec in self.tools.specs}

    def own(self, call: ToolCall) -> ToolCall:
        """The call under the agent's own name of the tool, which may be offered under another."""
        name = self.tools.own_names.get(call.name)
        return call if name is None else replace(call, name=name)

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
        prompt = prompt_of(self.context, self.history, messages, self.tools)
        if self.journal.steps:
            prompt = self._relieved(prompt)
        return replace(prompt, can_compact=True) if self.compacts else prompt

    def _relieved(self, prompt: Prompt) -> Prompt:
        """The prompt with the oldest results of the steps left out, where these fill the window."""
        agent = self.context.agent
        if not agent.models:
            return prompt
        reserve, system = agent.compaction.reserve_tokens, estimate_all(prompt.system)
        limit = prompt.room_to_fill(agent.models[0], system, reserve)
        kept = relieved(prompt.messages, limit)
        if kept is prompt.messages:
            return prompt
        results, tokens = saved_by(kept, prompt.messages)
        if results != self._left_out:
            self.pruned, self._left_out = Pruned(results, tokens), results
        return replace(prompt, messages=kept)

    def spend(self, usage: Usage) -> None:
        """Count tokens of other model calls than those of the steps and the answer."""
        self.overhead = usage if self.overhead is None else self.overhead + usage

    def handed_out(self) -> Answered:
        """The end of a Run whose last step has calls for the client."""
        journal = self.journal
        last = journal.steps[-1]
        messages = (*journal.messages[len(journal.question) :], *last.messages)
        usage = journal.usage or Usage(0, 0, estimated=True)
        if self.overhead is not None:
            usage += self.overhead
        return Answered(messages, StopReason.TOOL_CALLS, usage, last.model)

    def ended_by(self, answer: ModelAnswer) -> Answered:
        """The end of the Run: its steps and the answer, for the transcript."""
        journal = self.journal
        usage = answer.usage if self.overhead is None else answer.usage + self.overhead
        sequence = answer.stop_sequence
        if not journal.steps:
            return Answered((answer.message,), answer.stop, usage, answer.model, sequence)
        messages = (*journal.messages[len(journal.question) :], answer.message)
        used = journal.usage
        usage = usage if used is None else used + usage
        return Answered(messages, answer.stop, usage, answer.model, sequence)


def history_of(transcript: Transcript, agent: Agent) -> Transcript:
    """The transcript with long tool results shortened."""
    if not transcript.messages:
        return transcript
    messages = shortened_results(transcript.messages, agent.max_result_chars)
    if messages is transcript.messages:
        return transcript
    return Transcript(messages, transcript.complete, summary=transcript.summary)


def prompt_of(
    context: RunContext,
    history: Transcript,
    messages: tuple[Message, ...],
    tools: OfferedTools = NO_TOOLS,
) -> Prompt:
    """A model call of the Run's agent."""
    spec, agent = context.spec, context.agent
    system = _system(context)
    params = spec.params
    if (choice := tools.choice.param) is not None:
        params = {**params, "tool_choice": choice}
    return Prompt(spec.id, agent.id, agent.models, system, history, messages, params, tools.specs)


def _system(context: RunContext) -> tuple[Message, ...]:
    """The agent's instructions first, then the request's own layer, as one system message.

    One, because many chat templates accept a single system message at the start only.
    """
    layers = [context.agent.instructions, *(message.text for message in context.spec.instructions)]
    text = "\n\n".join(layer for layer in layers if layer.strip())
    return (text_message(Role.SYSTEM, text),) if text else ()
