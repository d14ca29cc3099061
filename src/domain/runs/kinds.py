"""The registry of event kinds: the name, version and stored form of each, in one place.

A stored event is a list: its head, then its fields. The head is the tag of the kind, followed by
the version from version 2 on. A new kind is a dataclass in `events`, a member of `RunEvent` and a
line in `KINDS`; a test then names every consumer that does not declare what it does with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import FailureKind
from ..messages import ToolCall
from ..models import ReasoningDelta, StopReason, TextDelta, Usage
from .events import (
    Aborted,
    ClientCalls,
    CompactionEnded,
    CompactionStarted,
    Failed,
    Finished,
    Pruned,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Unknown,
    Waiting,
)

T = TypeVar("T")

_MOST_TOKENS = 2**53
"""More than any provider counts. JSON numbers are exact up to there."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """`tag` and `version` make the stored head. `stream` is the wire name: the stream of the
    control protocol's `agent` events in which the kind is sent.

    `dump` gives the stored fields of an event; `load` makes the event of them and raises ValueError
    for fields that `dump` never gives.
    """

    name: str
    tag: str
    type: type
    stream: str
    dump: Callable[[Any], list[object]]
    load: Callable[[Sequence[object]], RunEvent]
    version: int = 1

    @property
    def head(self) -> str:
        return self.tag if self.version == 1 else f"{self.tag}{self.version}"


def _dump_started(event: Started) -> list[object]:
    return [event.queued, event.history]


def _load_started(fields: Sequence[object]) -> Started:
    match fields:
        case [int() | float() as queued, int() | float() as history]:
            return Started(queued, history)
    raise ValueError("two numbers were expected")


def _dump_text(event: TextDelta) -> list[object]:
    return [event.text, True] if event.refusal else [event.text]


def _dump_reasoning(event: ReasoningDelta) -> list[object]:
    return [event.text]


def _load_text(fields: Sequence[object]) -> TextDelta:
    match fields:
        case [str() as text]:
            return TextDelta(text)
        case [str() as text, True]:
            return TextDelta(text, refusal=True)
    raise ValueError("a text was expected")


def _load_reasoning(fields: Sequence[object]) -> ReasoningDelta:
    return ReasoningDelta(_load_text(fields).text)


def _dump_tool_started(event: ToolStarted) -> list[object]:
    return [event.call_id, event.name, event.arguments]


def _load_tool_started(fields: Sequence[object]) -> ToolStarted:
    match fields:
        case [str() as call_id, str() as name, str() as arguments]:
            return ToolStarted(call_id, name, arguments)
    raise ValueError("an id, a name and arguments were expected")


def _dump_tool_progress(event: ToolProgress) -> list[object]:
    return [event.call_id, event.text]


def _load_tool_progress(fields: Sequence[object]) -> ToolProgress:
    match fields:
        case [str() as call_id, str() as text]:
            return ToolProgress(call_id, text)
    raise ValueError("an id and a text were expected")


def _dump_tool_finished(event: ToolFinished) -> list[object]:
    return [event.call_id, event.is_error, event.text]


def _load_tool_finished(fields: Sequence[object]) -> ToolFinished:
    match fields:
        case [str() as call_id, bool() as is_error, str() as text]:
            return ToolFinished(call_id, is_error, text)
    raise ValueError("an id, a flag and a text were expected")


def _dump_compaction_started(event: CompactionStarted) -> list[object]:
    return []


def _load_compaction_started(fields: Sequence[object]) -> CompactionStarted:
    if fields:
        raise ValueError("no fields were expected")
    return CompactionStarted()


def _dump_compaction_ended(event: CompactionEnded) -> list[object]:
    return [event.before, event.after, event.failure, event.retries]


def _load_compaction_ended(fields: Sequence[object]) -> CompactionEnded:
    match fields:
        case [int() as before, int() as after, str() as failure, bool() as retries]:
            return CompactionEnded(before, after, failure, retries)
    raise ValueError("two numbers, a text and a flag were expected")


def _dump_pruned(event: Pruned) -> list[object]:
    return [event.results, event.tokens]


def _load_pruned(fields: Sequence[object]) -> Pruned:
    match fields:
        case [int() as results, int() as tokens]:
            return Pruned(results, tokens)
    raise ValueError("two numbers were expected")


def _dump_client_calls(event: ClientCalls) -> list[object]:
    return [[call.id, call.name, call.arguments] for call in event.calls]


def _load_client_calls(fields: Sequence[object]) -> ClientCalls:
    calls = []
    for call in fields:
        match call:
            case [str() as call_id, str() as name, str() as arguments]:
                calls.append(ToolCall(call_id, name, arguments))
            case _:
                raise ValueError("calls with an id, a name and arguments were expected")
    return ClientCalls(tuple(calls))


def _dump_step(event: StepDone) -> list[object]:
    return [event.number]


def _load_step(fields: Sequence[object]) -> StepDone:
    match fields:
        case [int() as number]:
            return StepDone(number)
    raise ValueError("a number was expected")


def _dump_waiting(event: Waiting) -> list[object]:
    return [event.what, event.approval_id, event.expires]


def _load_waiting(fields: Sequence[object]) -> Waiting:
    match fields:
        case [str() as what, None | str() as approval_id, None | int() | float() as expires]:
            return Waiting(what, approval_id, expires)
    raise ValueError("a text, an id and a time were expected")


def _dump_resumed(event: Resumed) -> list[object]:
    return [event.attempt, event.void, event.why]


def _load_resumed(fields: Sequence[object]) -> Resumed:
    match fields:
        case [int() as attempt, int() as void, str() as why]:
            return Resumed(attempt, void, why)
    raise ValueError("two numbers and a text were expected")


def _dump_finished(event: Finished) -> list[object]:
    usage = event.usage
    counts = (usage.input, usage.output, usage.reasoning, usage.cached)
    bounded: Sequence[int] = counts
    if max(counts) > _MOST_TOKENS or min(counts) < -_MOST_TOKENS:
        bounded = [max(-_MOST_TOKENS, min(count, _MOST_TOKENS)) for count in counts]
    # Left out where there is none: earlier releases know no such fields.
    written = [min(usage.cache_writes, _MOST_TOKENS)] if usage.cache_writes else []
    sequence = [event.stop_sequence] if event.stop_sequence else []
    return [str(event.stop), [*bounded, usage.estimated, *written], event.model, *sequence]


def _load_finished(fields: Sequence[object]) -> Finished:
    match fields:
        case [
            str() as stop,
            [
                int() as asked,
                int() as answered,
                int() as reasoning,
                int() as cached,
                bool() as estimated,
                *written,
            ],
            str() as model,
            *sequence,
        ]:
            usage = Usage(asked, answered, reasoning, cached, estimated, *_one(written, int))
            return Finished(_stop(stop), usage, model, *_one(sequence, str))
    raise ValueError("a stop reason, usage and a model were expected")


def _stop(stored: str) -> StopReason:
    """Why an answer ended. A later version, which may serve beside this one, may have reasons that
    this one does not: for clients of this one such an answer has just ended."""
    return next((reason for reason in StopReason if reason == stored), StopReason.STOP)


def _one(values: Sequence[object], kind: type[T]) -> tuple[T] | tuple[()]:
    """The only value, which may be missing."""
    match values:
        case []:
            return ()
        case [value] if isinstance(value, kind):
            return (value,)
    raise ValueError(f"at most one {kind.__name__} was expected")


def _dump_failed(event: Failed) -> list[object]:
    kind = None if event.kind is None else event.kind.value
    return [event.code, event.message, kind, event.retry_after, event.param]


def _load_failed(fields: Sequence[object]) -> Failed:
    match fields:
        case [
            str() as code,
            str() as message,
            str() | None as kind,
            int() | float() | None as retry_after,
            str() | None as param,
        ]:
            # None also for one of a later version.
            failure = next((known for known in FailureKind if known == kind), None)
            return Failed(code, message, failure, retry_after, param)
    raise ValueError("a code, a message, a kind, a time and a parameter were expected")


def _dump_aborted(event: Aborted) -> list[object]:
    return [event.reason]


def _load_aborted(fields: Sequence[object]) -> Aborted:
    return Aborted(_load_text(fields).text)


class EventKinds:
    """The registered kinds, by the types of their events and by their stored heads."""

    def __init__(self, *kinds: EventKind) -> None:
        self._by_type = {kind.type: kind for kind in kinds}
        self._by_head = {kind.head: kind for kind in kinds}

    def __iter__(self) -> Iterator[EventKind]:
        return iter(self._by_type.values())

    def of(self, event: RunEvent) -> EventKind:
        """The kind of an event. KeyError for Unknown, which has none here."""
        return self._by_type[type(event)]

    def with_head(self, head: str) -> EventKind | None:
        return self._by_head.get(head)


KINDS = EventKinds(
    EventKind("started", "s", Started, "lifecycle", _dump_started, _load_started),
    EventKind("text_delta", "t", TextDelta, "assistant", _dump_text, _load_text),
    EventKind("reasoning_delta", "r", ReasoningDelta, "thinking", _dump_reasoning, _load_reasoning),
    EventKind("tool_started", "c", ToolStarted, "tool", _dump_tool_started, _load_tool_started),
    EventKind("tool_progress", "p", ToolProgress, "tool", _dump_tool_progress, _load_tool_progress),
    EventKind("tool_finished", "o", ToolFinished, "tool", _dump_tool_finished, _load_tool_finished),
    EventKind(
        "compaction_started",
        "k",
        CompactionStarted,
        "compaction",
        _dump_compaction_started,
        _load_compaction_started,
    ),
    EventKind(
        "compaction_ended",
        "K",
        CompactionEnded,
        "compaction",
        _dump_compaction_ended,
        _load_compaction_ended,
    ),
    EventKind("pruned", "u", Pruned, "pruning", _dump_pruned, _load_pruned),
    EventKind("client_calls", "h", ClientCalls, "tool", _dump_client_calls, _load_client_calls),
    EventKind("step_done", "d", StepDone, "lifecycle", _dump_step, _load_step),
    EventKind("waiting", "w", Waiting, "lifecycle", _dump_waiting, _load_waiting),
    EventKind("resumed", "R", Resumed, "lifecycle", _dump_resumed, _load_resumed),
    EventKind("finished", "f", Finished, "lifecycle", _dump_finished, _load_finished),
    EventKind("failed", "x", Failed, "lifecycle", _dump_failed, _load_failed),
    EventKind("aborted", "a", Aborted, "lifecycle", _dump_aborted, _load_aborted),
)
EVERY_KIND = tuple(kind.type for kind in KINDS)
"""For `consumes`, where a function handles the events of all kinds."""


def dump_event(event: RunEvent) -> list[object]:
    """The stored form of an event: plain data for JSON."""
    kind = KINDS.of(event)
    return [kind.head, *kind.dump(event)]


def load_event(stored: object) -> RunEvent:
    """The event of a stored form; Unknown for a head that is not registered. Raises ValueError for
    what no process has stored."""
    match stored:
        case [str() as head, *fields]:
            kind = KINDS.with_head(head)
            return Unknown(head) if kind is None else kind.load(fields)
    raise ValueError("it does not begin with its kind")
