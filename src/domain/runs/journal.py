"""The journal of a Run: its steps, and the pure function that says what comes next.

Whatever goes on with a Run asks the same function: the loop after a model call, an attempt after
the death of a process, and a Run that waited for a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..messages import Message, Role, ToolCall, text_message
from ..tools import Repeat

INTERRUPTED = "interrupted: it is not known whether this call took effect"
"""The result of a call that was begun, must not be repeated, and whose process died."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one model call led to: the assistant's message, and the results of its tool calls so
    far. A step is complete when every call has its result; only complete steps go to a model."""

    message: Message
    results: tuple[Message, ...] = ()

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
        """The message and its results, in the order of the calls."""
        by_call = {result.tool_call_id: result for result in self.results}
        return (self.message, *(by_call[call.id] for call in self.calls if call.id in by_call))


@dataclass(frozen=True, slots=True)
class Journal:
    """What is known of a Run's work. `begun`: calls of the last step that were begun, with their
    tools' `Repeat`; `undecided`: calls of the last step that wait for a person's decision."""

    question: tuple[Message, ...]
    steps: tuple[Step, ...] = ()
    begun: Mapping[str, Repeat] = field(default_factory=dict)
    undecided: frozenset[str] = frozenset()
    answer: Message | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The question, the complete steps and the answer, as a conversation."""
        done = [m for step in self.steps if not step.open_calls for m in step.messages]
        return (*self.question, *done, *(() if self.answer is None else (self.answer,)))

    def with_results(self, *results: Message) -> Journal:
        """The journal with these results of the last step's calls."""
        *steps, last = self.steps
        step = replace(last, results=(*last.results, *results))
        return replace(self, steps=(*steps, step))


@dataclass(frozen=True, slots=True)
class CallModel:
    """Call a model with the question and the steps."""


@dataclass(frozen=True, slots=True)
class RunCalls:
    """Run these tool calls; they were not begun, or may be made again."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class RecordResults:
    """Add these results to the last step, without running anything."""

    results: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class AwaitDecisions:
    """Nothing can go on before these calls are decided."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is complete."""

    answer: Message


@dataclass(frozen=True, slots=True)
class StepLimit:
    """The Run has had all the steps that it may have, and no answer."""

    steps: int


Action = CallModel | RunCalls | RecordResults | AwaitDecisions | Finish | StepLimit


def next_action(journal: Journal, *, max_steps: int) -> Action:
    """What comes next in a Run. `max_steps`: model calls that may lead to tool calls.

    An open call that was begun and is unsafe gets the result INTERRUPTED, and the model decides.
    Calls that need no decision run before the Run waits for the others.
    """
    if journal.answer is not None:
        return Finish(journal.answer)
    if not journal.steps:
        return CallModel()
    open_calls = journal.steps[-1].open_calls
    if not open_calls:
        made = len(journal.steps)
        return StepLimit(made) if made >= max_steps else CallModel()
    unknown = [call for call in open_calls if journal.begun.get(call.id) is Repeat.UNSAFE]
    if unknown:
        return RecordResults(tuple(result_of(call, INTERRUPTED) for call in unknown))
    ready = tuple(call for call in open_calls if call.id not in journal.undecided)
    return RunCalls(ready) if ready else AwaitDecisions(open_calls)


def result_of(call: ToolCall, text: str) -> Message:
    """A call's result as a message."""
    message = text_message(Role.TOOL, text)
    return Message(message.role, message.parts, name=call.name, tool_call_id=call.id)
