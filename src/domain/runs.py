"""A Run, what it is asked, and the events that tell what happened in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import starmap
from types import MappingProxyType

from .agents import Agent
from .errors import (
    FailureKind,
    GatewayError,
    InvalidRequest,
    ModelFailed,
    RunAborted,
    RunFailed,
    RunInterrupted,
    RunTimedOut,
    SendBlocked,
    StoreFailed,
    UnknownAgent,
    Unsupported,
)
from .messages import Message
from .model_calls import ReasoningDelta, StopReason, TextDelta, Usage
from .sessions import SessionKey

CONTENT = "opensoul.content"
"""The logger for what people and agents say; it is shut unless `logging.content` is true."""


class OnLeave(StrEnum):
    """What the departure of the last follower means for a Run."""

    ABORT = "abort"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a transport read from its client, before anything was looked up.

    `messages` is the whole conversation as sent, system messages included; `params` are model
    parameters under OpenAI's names, already validated.
    """

    messages: tuple[Message, ...]
    model: str = ""
    agent_id: str | None = None
    session_key: str | None = None
    user: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    on_leave: OnLeave = OnLeave.ABORT
    door: str = "openai"
    """Names the entry point, also in generated session keys."""
    reserved_keys: bool = False
    """The session key may be one of a sub-agent or a job."""
    thinking: str | None = None
    """How much the model is to think, in this Run alone."""
    timeout: float | None = None
    """Seconds that the client gives the Run, which shorten the agent's limit and never lengthen it.
    None and 0: the agent's limit alone."""


@dataclass(frozen=True, slots=True)
class Run:
    """One turn, accepted. Plain data: whoever executes it needs nothing from who accepted it."""

    id: str
    agent: Agent
    session_key: SessionKey
    principal_id: str
    messages: tuple[Message, ...]
    """The conversation as sent, without system messages."""
    instructions: tuple[Message, ...] = ()
    """The request's system messages: a layer after the agent's own instructions."""
    params: Mapping[str, object] = field(default_factory=dict)
    on_leave: OnLeave = OnLeave.ABORT
    accepted_at: float = 0.0
    """Unix time in seconds."""
    one_off: bool = False
    """The session key was made for this request alone."""
    door: str = "openai"
    thinking: str | None = None
    """A level of `session_settings`, which wins over the Session's."""


@dataclass(frozen=True, slots=True)
class Started:
    """The Run has left the queue and its history is read. Times are in seconds."""

    queued: float
    history: float


@dataclass(frozen=True, slots=True)
class Finished:
    """Terminal: the answer is complete and the turn is committed. `model` is `provider/model`."""

    stop: StopReason
    usage: Usage
    model: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: there is no (complete) answer, and nothing of the turn was stored."""

    code: str
    message: str
    kind: FailureKind | None = None
    retry_after: float | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Aborted:
    """Terminal: the Run was stopped. `reason` is for a person."""

    reason: str


RunEvent = Started | TextDelta | ReasoningDelta | Finished | Failed | Aborted
TERMINAL = (Finished, Failed, Aborted)
DELTAS = (TextDelta, ReasoningDelta)


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """A RunEvent and its place in its Run, from 1."""

    seq: int
    event: RunEvent


@dataclass(frozen=True, slots=True)
class EventSpan:
    """Events that follow one another in a Run, one at least; `first` is the number of the first."""

    first: int
    events: Sequence[RunEvent]

    @property
    def last(self) -> int:
        """The number of the last one."""
        return self.first + len(self.events) - 1

    @property
    def ending(self) -> Finished | Failed | Aborted | None:
        """The terminal event, where the Run ends here."""
        last = self.events[-1]
        return last if isinstance(last, TERMINAL) else None

    def __iter__(self) -> Iterator[NumberedEvent]:
        return starmap(NumberedEvent, enumerate(self.events, self.first))


@dataclass(frozen=True, slots=True)
class Answered:
    """What a runner's stream ends with: the messages to store, and how the model stopped."""

    messages: tuple[Message, ...]
    stop: StopReason
    usage: Usage
    model: str


RunnerEvent = TextDelta | ReasoningDelta | Answered


def failed_event(error: GatewayError) -> Failed:
    """The event that tells of `error`."""
    kind = error.kind if isinstance(error, ModelFailed) else None
    param = getattr(error, "param", None)
    return Failed(error.code, error.message, kind, error.retry_after, param)


def error_of(event: Failed | Aborted) -> GatewayError:
    """The error that `event` tells of, for transports that answer with errors."""
    match event:
        case Aborted(reason=reason):
            return RunAborted(reason)
        case Failed(kind=FailureKind() as kind):
            return ModelFailed(
                kind, event.message, retry_after=event.retry_after, param=event.param
            )
        case Failed(code=code) if invalid := _REQUEST_AT_FAULT.get(code):
            return invalid(event.message, param=event.param)
        case _:
            error = _GATEWAY_AT_FAULT.get(event.code, RunFailed)
            return error(event.message, retry_after=event.retry_after)


# Not every error: a runner's own Unauthenticated, say, tells nothing of the client's credential.
_REQUEST_AT_FAULT: Mapping[str, type[InvalidRequest]] = MappingProxyType(
    {error.code: error for error in (InvalidRequest, SendBlocked, Unsupported, UnknownAgent)}
)
_GATEWAY_AT_FAULT: Mapping[str, type[GatewayError]] = MappingProxyType(
    {
        error.code: error
        for error in (GatewayError, RunTimedOut, RunAborted, RunInterrupted, StoreFailed)
    }
)
