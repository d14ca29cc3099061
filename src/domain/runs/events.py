"""The events of a Run. `kinds` has their names, versions and stored forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from types import MappingProxyType

from ..errors import (
    AgentFailed,
    FailureKind,
    GatewayError,
    InvalidRequest,
    InvalidStructuredOutput,
    ModelFailed,
    RunAborted,
    RunFailed,
    RunInterrupted,
    RunTimedOut,
    SendBlocked,
    StoreFailed,
    TurnNotStored,
    UnknownAgent,
    Unsupported,
)
from ..immutable import immutable
from ..messages import Message, ToolCall
from ..models import ReasoningDelta, StopReason, TextDelta, Usage


@immutable(frozen=True, slots=True)
class Started:
    """The Run has left the queue and its history is read. Times are in seconds."""

    queued: float
    history: float


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool call is run, or gets a result without being run. `arguments` is the JSON text as the
    model wrote it."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """Output of a tool call that is still running."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """The result of a tool call; a long `text` is shortened."""

    call_id: str
    is_error: bool
    text: str


@dataclass(frozen=True, slots=True)
class ClientCalls:
    """Calls of the client's own tools. The answer ends with them; their results come with another
    request."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step of the Run is stored; `number` counts from 1. Later attempts do not repeat it."""

    number: int


@dataclass(frozen=True, slots=True)
class CompactionStarted:
    """A model begins to write a summary of the older part of the Session's history."""


@dataclass(frozen=True, slots=True)
class CompactionEnded:
    """The summary replaces the older part for models. `before` and `after`: roughly the tokens of
    the whole history. `failure`: why there is no summary; older messages are then left out.
    `retries`: a model call that did not fit the window is made again."""

    before: int
    after: int
    failure: str = ""
    retries: bool = False


@dataclass(frozen=True, slots=True)
class Pruned:
    """Old results of tools are shortened or left out in what the model gets; `results`: how many,
    `tokens`: roughly how many tokens that saves."""

    results: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The Run waits for a signal, without a task, a slot or its place in its Session.

    `what` is for a person. Of an approval: its id, and when it expires in Unix seconds.
    """

    what: str
    approval_id: str | None = None
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """Another attempt goes on. The last `void` events before this one do not count any more: those
    of a model call whose message was not stored, or none."""

    attempt: int
    void: int
    why: str


@immutable(frozen=True, slots=True)
class Finished:
    """Terminal: the answer is complete and the turn is committed. `model` is `provider/model`.
    `stop_sequence`: as in ModelFinished."""

    stop: StopReason
    usage: Usage
    model: str
    stop_sequence: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: there is no (complete) answer. Of the turn nothing was stored, unless a tool call
    was begun: then the question, the steps and a note were."""

    code: str
    message: str
    kind: FailureKind | None = None
    retry_after: float | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Aborted:
    """Terminal: the Run was stopped. `reason` is for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event of a kind or version that only a newer process knows. It is counted and passed over:
    no reader fails because of it. `head` is its stored name and version."""

    head: str


ToolEvent = ToolStarted | ToolProgress | ToolFinished | ClientCalls
ContextEvent = CompactionStarted | CompactionEnded | Pruned
Ending = Finished | Failed | Aborted
KnownEvent = (
    Started
    | TextDelta
    | ReasoningDelta
    | ToolEvent
    | ContextEvent
    | StepDone
    | Waiting
    | Resumed
    | Ending
)
RunEvent = KnownEvent | Unknown

TERMINAL = (Finished, Failed, Aborted)
TOOL_EVENTS = (ToolStarted, ToolProgress, ToolFinished, ClientCalls)
CONTEXT_EVENTS = (CompactionStarted, CompactionEnded, Pruned)
DELTAS = (TextDelta, ReasoningDelta)


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """A RunEvent and its place in its Run, from 1."""

    seq: int
    event: RunEvent


@immutable(frozen=True, slots=True)
class EventBatch:
    """Events that follow one another in a Run, one at least; `first` is the number of the first."""

    first: int
    events: Sequence[RunEvent]

    @property
    def last(self) -> int:
        """The number of the last one."""
        return self.first + len(self.events) - 1

    @property
    def ending(self) -> Ending | None:
        """The terminal event, where the Run ends here."""
        last = self.events[-1]
        return last if isinstance(last, TERMINAL) else None

    def __iter__(self) -> Iterator[NumberedEvent]:
        return starmap(NumberedEvent, enumerate(self.events, self.first))


@immutable(frozen=True, slots=True)
class Answered:
    """What a runner's stream ends with: the messages to store, and how the model stopped."""

    messages: tuple[Message, ...]
    stop: StopReason
    usage: Usage
    model: str
    stop_sequence: str = ""

    @property
    def end(self) -> Finished:
        """The event that the Run ends with."""
        return Finished(self.stop, self.usage, self.model, self.stop_sequence)


RunnerEvent = TextDelta | ReasoningDelta | ToolEvent | ContextEvent | StepDone | Waiting | Answered
RunnerEvents = RunnerEvent | Sequence[RunnerEvent]
"""What a runner yields: one event, or several that came together."""
RUNNER_EVENTS = (
    TextDelta,
    ReasoningDelta,
    ToolStarted,
    ToolProgress,
    ToolFinished,
    CompactionStarted,
    CompactionEnded,
    Pruned,
    ClientCalls,
    StepDone,
    Waiting,
    Answered,
)


def failed_event(error: GatewayError) -> Failed:
    """The event for `error`."""
    kind = error.kind if isinstance(error, ModelFailed) else None
    param = getattr(error, "param", None)
    return Failed(error.code, error.message, kind, error.retry_after, param)


def error_of(event: Failed | Aborted) -> GatewayError:
    """The error for `event`, for transports that answer with errors."""
    match event:
        case Aborted(reason=reason):
            return RunAborted(reason)
        case Failed(kind=FailureKind() as kind):
            return ModelFailed(
                kind, event.message, retry_after=event.retry_after, param=event.param
            )
        case Failed(code=code) if invalid := _REQUEST_AT_FAULT.get(code):
            return invalid(event.message, param=event.param)
        case Failed():
            error = _GATEWAY_AT_FAULT.get(event.code, RunFailed)
            return error(event.message, retry_after=event.retry_after)


# Not every error: a runner's own Unauthenticated, say, is not about the client's credential.
_REQUEST_AT_FAULT: Mapping[str, type[InvalidRequest]] = MappingProxyType(
    {
        error.code: error
        for error in (InvalidRequest, SendBlocked, TurnNotStored, Unsupported, UnknownAgent)
    }
)


_GATEWAY_AT_FAULT: Mapping[str, type[GatewayError]] = MappingProxyType(
    {
        error.code: error
        for error in (
            *(GatewayError, RunTimedOut, RunAborted, RunInterrupted, StoreFailed),
            InvalidStructuredOutput,
            AgentFailed,
        )
    }
)
