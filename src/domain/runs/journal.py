"""The journal of a Run: its steps, and what the transcript keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..immutable import immutable
from ..messages import Message, Role, Text, ToolCall, text_message
from ..models import Usage
from ..tools import Repeat, ToolResult

INTERRUPTED = "interrupted: it is not known whether this call took effect"
"""The result of a call that was begun, must not be repeated, and whose process died."""
NOT_RUN = "not run: the run ended before this call was begun"
"""The result of a call in a Run that has ended without it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one model call led to: the assistant's message, and the results of its tool calls so
    far. A step is complete when every call has its result; only complete steps go to a model.

    `begun`: the calls that were begun, by their ids, with their tools' `Repeat`. `undecided`: the
    ids of the calls that wait for a person's decision; `handed`: those of the calls that the client
    runs. `injected`: messages that reached the Run from outside, to be read after the results.
    `usage` and `model` are the model call's. `seconds`: the time that the model call and the tool
    calls have taken, without waiting for decisions. `state`: what a framework needs to go on from
    here, as a text of its own.
    """

    message: Message
    results: tuple[Message, ...] = ()
    begun: Mapping[str, Repeat] = field(default_factory=dict)
    undecided: frozenset[str] = frozenset()
    handed: frozenset[str] = frozenset()
    injected: tuple[Message, ...] = ()
    usage: Usage | None = None
    model: str = ""
    seconds: float = 0.0
    state: str = ""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the message."""
        return tuple(part for part in self.message.parts if isinstance(part, ToolCall))

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls without a result, in their order."""
        answered = {result.tool_call_id for result in self.results}
        return tuple(call for call in self.calls if call.id not in answered)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The message, its results in the order of the calls, and what was injected."""
        by_call = {result.tool_call_id: result for result in self.results}
        results = (by_call[call.id] for call in self.calls if call.id in by_call)
        return (self.message, *results, *self.injected)


@immutable(frozen=True, slots=True)
class Journal:
    """What is known of a Run's work. Only the last step may be incomplete."""

    question: tuple[Message, ...]
    steps: tuple[Step, ...] = ()
    answer: Message | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The question, the complete steps and the answer, as a conversation."""
        done = [m for step in self.steps if not step.open_calls for m in step.messages]
        return (*self.question, *done, *(() if self.answer is None else (self.answer,)))

    @property
    def usage(self) -> Usage | None:
        """The sum over the model calls of the steps; None where none is known."""
        known = [step.usage for step in self.steps if step.usage is not None]
        return sum(known[1:], known[0]) if known else None

    @property
    def seconds(self) -> float:
        """The time that the steps have taken."""
        return sum(step.seconds for step in self.steps)

    def with_step(self, step: Step) -> Journal:
        """The journal with one more step."""
        return replace(self, steps=(*self.steps, step))

    def with_results(self, *results: Message) -> Journal:
        """The journal with these results of the last step's calls."""
        last = self.steps[-1]
        return self._ending_with(replace(last, results=(*last.results, *results)))

    def with_begun(self, call_id: str, repeat: Repeat) -> Journal:
        """The journal in which that call of the last step was begun."""
        last = self.steps[-1]
        return self._ending_with(replace(last, begun={**last.begun, call_id: repeat}))

    def with_decided(self, call_id: str) -> Journal:
        """The journal in which that call of the last step no longer waits for a decision."""
        last = self.steps[-1]
        return self._ending_with(replace(last, undecided=last.undecided - {call_id}))

    def with_injected(self, *messages: Message) -> Journal:
        """The journal with these messages after the last step's results."""
        last = self.steps[-1]
        return self._ending_with(replace(last, injected=(*last.injected, *messages)))

    def with_seconds(self, seconds: float) -> Journal:
        """The journal in which the last step has taken so many seconds more."""
        last = self.steps[-1]
        return self._ending_with(replace(last, seconds=last.seconds + seconds))

    def _ending_with(self, step: Step) -> Journal:
        return replace(self, steps=(*self.steps[:-1], step))


def closed(journal: Journal, note: str) -> tuple[Message, ...]:
    """What the transcript keeps of a Run that has ended without an answer: the question, what its
    tools did, and `note` as the assistant's last message. Empty where no tool call was begun.

    Each call has a result, because providers refuse a conversation in which one is missing.
    """
    steps = journal.steps
    if steps and steps[-1].open_calls:
        last = steps[-1]
        if last.results or last.begun:
            lost = [
                failed_result(call, INTERRUPTED if call.id in last.begun else NOT_RUN)
                for call in last.open_calls
            ]
            last = replace(last, results=(*last.results, *lost))
            steps = (*steps[:-1], last)
        else:
            steps = steps[:-1]
    if not steps:
        return ()
    said = [message for step in steps for message in step.messages]
    return (*journal.question, *said, text_message(Role.ASSISTANT, note))


def result_of(call: ToolCall, result: ToolResult) -> Message:
    """A call's result as a message."""
    return Message(
        Role.TOOL,
        (Text(result.text),),
        name=call.name,
        tool_call_id=call.id,
        is_error=result.is_error,
    )


def failed_result(call: ToolCall, text: str) -> Message:
    """The message for a call that failed or was not run; `text` says why."""
    return result_of(call, ToolResult(text, is_error=True))
