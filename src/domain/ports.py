"""What the domain needs from outside. Each docstring is the promise an adapter makes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from .history import Transcript as Transcript
from .messages import Message
from .model_calls import ModelEvent, ModelRequest, Usage
from .runs import NumberedEvent, Run, RunEvent, RunnerEvent
from .sessions import SessionKey
from .settings import Settings

Clock = Callable[[], float]
"""Unix time in seconds."""

NewId = Callable[[], str]
"""A fresh identifier, unique, sortable by time: letters, digits and dashes only."""

CurrentSettings = Callable[[], Settings]
"""The settings in force now. Ask for every request, and once per request."""


class ModelClient(Protocol):
    """Speaks to models of one wire API."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Call the model; the last event is ModelFinished, unless ModelFailed is raised.

        Nothing is sent before the first event is asked for. Closing the stream, or cancelling
        who reads it, ends the call and closes its connection to the provider at once. What the
        provider has answered is never asked for again. Raises ModelFailed, and nothing else, for
        whatever goes wrong out there: a stream that ends early is BAD_RESPONSE, silence past the
        provider's limits is TIMEOUT.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; the client is not used afterwards. Safe to call twice."""
        ...


class AgentRunner(Protocol):
    """Makes an Agent answer."""

    def run(self, run: Run, transcript: Transcript) -> AsyncGenerator[RunnerEvent]:
        """Answer `run.messages`; the last event is Answered, unless a GatewayError is raised.

        `transcript` holds what came before and is not repeated in the answer. Closing the stream
        stops the work. `run.messages` are never cut; history may be.
        """
        ...

    def history_budget(self, run: Run) -> int:
        """How many tokens of history (as `history.estimate` counts) this run can make use of."""
        ...


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A Session as kept. `session_id` names its current transcript; times are Unix seconds."""

    key: SessionKey
    session_id: str
    updated_at: float
    message_count: int
    """Of the current transcript."""
    tail: Transcript


@dataclass(frozen=True, slots=True)
class Turn:
    """What a finished Run adds to its Session: the question's messages and the answer's."""

    key: SessionKey
    session_id: str
    """Another one than the Session's current id starts a new transcript; the old one is kept."""
    run_id: str
    at: float
    messages: tuple[Message, ...]
    model: str = ""
    usage: Usage | None = None
    one_off: bool = False


class SessionStore(Protocol):
    """Where Sessions are kept. Raises StoreFailed when it cannot do what it promises."""

    async def open(self) -> None:
        """Make ready: files, schema, migrations."""
        ...

    async def load(self, key: SessionKey, budget: int) -> StoredSession | None:
        """The Session with the newest messages whose estimates fit `budget` tokens together.

        None when the key holds no turn. Reads no more than the budget asks for.
        """
        ...

    async def append(self, turn: Turn) -> None:
        """Store the turn, all or nothing. Returns when it is durable: it survives `kill -9`.

        A second turn with the `run_id` of a stored one changes nothing.
        """
        ...

    async def prune_one_off(self, before: float) -> int:
        """Delete sessions of stateless requests last used before that time; tells how many."""
        ...

    async def check(self) -> None:
        """Return when the store can be read and written."""
        ...

    async def close(self) -> None:
        """Finish what was asked for and let go. Safe to call twice."""
        ...


class RunLog(Protocol):
    """The events of Runs, append-only and numbered from 1 in each. Bounded, and it expires."""

    def open(self, run_id: str) -> None:
        """Begin the log of a Run."""
        ...

    def append(self, run_id: str, event: RunEvent) -> int:
        """Add an event and tell its number. Never waits for a follower. After a terminal event
        nothing can be added: RuntimeError."""
        ...

    def follow(self, run_id: str, after: int = 0) -> AsyncGenerator[NumberedEvent]:
        """Every event numbered above `after`, in order, each once, then new ones as they come;
        it ends behind the terminal event. Raises UnknownRun, and EventsExpired when events that
        were asked for are no longer kept (a follower that fell too far behind)."""
        ...


class RunDispatcher(Protocol):
    """Gets each Run executed once, in the order of its Session."""

    def dispatch(self, run: Run) -> None:
        """Take the Run. Raises SessionBusy, GatewayBusy or ShuttingDown, and then has not taken
        it. Returns at once; what happens is told in the RunLog."""
        ...

    def abort(self, run_id: str, reason: str) -> bool:
        """Stop the Run, queued or running. False when there is nothing (left) to stop."""
        ...

    async def drain(self, grace: float) -> None:
        """Take no more Runs, let those there finish for `grace` seconds, abort the rest."""
        ...
