"""What the domain needs from outside. Each docstring is the promise an adapter makes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from .history import Transcript as Transcript
from .messages import Message
from .model_calls import ModelEvent, ModelRequest, Usage
from .run_records import RunPage, RunQuery, RunRecord
from .runs import EventSpan, Run, RunEvent, RunnerEvent
from .session_records import (
    KeptMessage,
    KeptTranscript,
    PeriodUsage,
    SessionInfo,
    SessionPage,
    SessionQuery,
    SessionSettingsMap,
    UsageQuery,
)
from .sessions import SessionKey
from .settings import Settings

T = TypeVar("T")

Clock = Callable[[], float]
"""Unix time in seconds."""

NewId = Callable[[], str]
"""A fresh identifier, unique, sortable by time: letters, digits and dashes only."""

CurrentSettings = Callable[[], Settings]
"""The settings in force now. Ask for every request, and once per request."""


class ModelClient(Protocol):
    """Speaks to models of one wire API."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        """Call the model; the last event is ModelFinished, unless ModelFailed is raised.

        Events that came together are told together, one at least; none is held back for another.

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

    def run(self, run: Run, transcript: Transcript) -> AsyncGenerator[Sequence[RunnerEvent]]:
        """Answer `run.messages`; the last event is Answered, unless a GatewayError is raised.

        Events that came together are told together, one at least; none is held back for another.

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
    settings: SessionSettingsMap = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a finished Run adds to its Session: the question's messages and the answer's."""

    key: SessionKey
    session_id: str
    """That of an earlier transcript adds to that one, which does not become current; an id that
    the Session does not know starts a new transcript, and the others are kept."""
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

        None when nothing is kept under the key. Reads no more than the budget asks for.
        """
        ...

    async def append(self, turn: Turn) -> None:
        """Store the turn, all or nothing. Returns when it is durable: it survives `kill -9`.

        A second turn with the `run_id` of a stored one changes nothing.
        """
        ...

    async def prune_one_off(self, keep: float | None, max_bytes: int | None = None) -> int:
        """Delete the sessions of stateless requests that were kept for more than `keep` seconds,
        whatever the system's clock was set to meanwhile; then the oldest of the others, until what
        is said in them takes at most `max_bytes`. None: no bound. Returns how many.

        The store sees to `max_bytes` by itself from then on. Called at the start, and then often.
        """
        ...

    async def check_writable(self) -> None:
        """Return when a turn can probably be stored now. Called before each Run starts its work, so
        that no model is paid for an answer that is lost; while nothing is wrong it must cost
        next to nothing."""
        ...

    async def check(self) -> None:
        """Return when the store can be read and written."""
        ...

    async def close(self) -> None:
        """Finish what was asked for and let go. Safe to call twice."""
        ...


@runtime_checkable
class SessionCatalog(Protocol):
    """What is known of the Sessions in the store besides the turn that goes on now: for lists, for
    people who look and tidy up. A store that has none can still serve runs. Raises StoreFailed."""

    async def turn(self, run_id: str) -> Turn | None:
        """The turn that the Run of that id stored; None when it stored none."""
        ...

    async def list(self, query: SessionQuery) -> SessionPage:
        """The Sessions that the query means. Reads no messages."""
        ...

    async def find(self, key: SessionKey) -> SessionInfo | None:
        """What lists tell of one Session. None when nothing is kept under the key."""
        ...

    async def find_by_id(self, session_id: str) -> tuple[SessionInfo, ...]:
        """The Sessions whose current transcript has that id."""
        ...

    async def patch(
        self,
        key: SessionKey,
        changes: Mapping[str, str | bool | int | None],
        *,
        at: float,
        new_id: str,
    ) -> SessionInfo:
        """Set what somebody chose for a Session; None takes a setting away. All or nothing.

        A Session that is not there yet begins, with `new_id` as its first transcript's id. What is
        not named stays, and `updated_at` of a Session that was there does not move.
        """
        ...

    async def reset(self, key: SessionKey, *, at: float, new_id: str) -> SessionInfo:
        """Start a new, empty transcript `new_id`; the old one is kept, and so are the settings.

        A Session that is not there yet begins.
        """
        ...

    async def compact(
        self, key: SessionKey, keep: int, *, at: float, new_id: str
    ) -> tuple[SessionInfo, int] | None:
        """Go on in a new transcript `new_id` that holds copies of the newest messages of the
        current one: at most `keep`, and starting with a user's. Tells how many; the old transcript
        is kept. None when nothing is kept under the key. Nothing changes where all would stay."""
        ...

    async def delete(self, key: SessionKey) -> bool:
        """Forget a Session, its transcripts and its settings. False when there was none."""
        ...

    async def messages(
        self,
        key: SessionKey,
        *,
        limit: int,
        before: int | None = None,
        session_id: str | None = None,
    ) -> tuple[KeptMessage, ...]:
        """The newest messages of a transcript (the current one without `session_id`), at most
        `limit` of those numbered below `before`, oldest first. Fewer where these are large
        already; the oldest of them says whether more precede. Empty for a Session that is not
        there."""
        ...

    async def transcripts(self, key: SessionKey, limit: int) -> tuple[KeptTranscript, ...]:
        """A Session's transcripts, newest first."""
        ...

    async def usage(self, query: UsageQuery) -> tuple[PeriodUsage, ...]:
        """Tokens by period, agent and model, in that order."""
        ...


class RunLog(Protocol):
    """The events of Runs, append-only and numbered from 1 in each. Bounded, and it expires.

    Events are kept, where the adapter keeps anything, a moment after they were added, many at a
    time. Methods that read what is kept raise StoreFailed when it cannot be read.
    """

    async def start(self) -> None:
        """Make ready. Runs of an earlier process that have no end are told by `unfinished`."""
        ...

    async def reserve(self, record: RunRecord) -> RunRecord | None:
        """Keep the record, unless one of its id is kept: then that one is returned as it stands
        now, and nothing has changed. None: the id is the caller's, and on the disk; `open` or
        `release` follows. Of callers at the same time exactly one gets None."""
        ...

    async def release(self, run_id: str) -> None:
        """Take back a reservation whose Run was not begun."""
        ...

    def open(self, record: RunRecord) -> None:
        """Begin the log of a Run, reserved or not. ValueError when it has one already."""
        ...

    def append(self, run_id: str, *events: RunEvent) -> int:
        """Add events, all or none, and tell the number of the last. Never waits for a follower or
        for the disk. After a terminal event nothing can be added: RuntimeError."""
        ...

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[EventSpan]:
        """Every event numbered above `after`, in order, each once, then new ones as they come;
        it ends behind the terminal event. What is there is told together, though never very much
        at once. Who waits for more may give that up and wait again; nothing need be closed.

        Of Runs that this process holds in memory, and without waiting for the disk. Raises
        UnknownRun, and EventsExpired when events that were asked for are no longer kept (a
        follower that fell too far behind)."""
        ...

    def follow_kept(self, run_id: str, after: int = 0) -> AsyncIterator[EventSpan]:
        """The same, but each event only once it is kept, and of Runs of earlier processes too:
        who comes back with the number of the last event it saw misses none and sees none twice,
        also after `kill -9`."""
        ...

    async def find(self, run_id: str) -> RunRecord | None:
        """What is known of a Run; None when it is not known (any more)."""
        ...

    async def list(self, query: RunQuery) -> RunPage:
        """Runs, newest first. Raises InvalidRequest (`param` cursor) for a cursor that is none."""
        ...

    async def unfinished(self) -> tuple[RunRecord, ...]:
        """Runs of an earlier process without a terminal event; `append` can still end them."""
        ...

    def trouble(self) -> str | None:
        """A sentence while what happens in Runs cannot be kept; None while it can. Runs go on, and
        keeping is tried again."""
        ...

    async def close(self) -> None:
        """Keep what was added, and let go. Safe to call twice."""
        ...


class RunDispatcher(Protocol):
    """Gets each Run executed once, in the order of its Session."""

    def dispatch(
        self, run: Run, *, fingerprint: str = "", on_end: Callable[[], None] | None = None
    ) -> None:
        """Take the Run. Raises SessionBusy, GatewayBusy or ShuttingDown, and then has not taken
        it. Returns at once; what happens is told in the RunLog. `on_end` is called once the Run,
        if it was taken, has ended."""
        ...

    def abort(self, run_id: str, reason: str) -> bool:
        """Stop the Run, queued or running. False when there is nothing (left) to stop."""
        ...

    def live(self, key: SessionKey | None = None) -> tuple[Run, ...]:
        """The Runs without a terminal event, of a Session or all, in the order they came."""
        ...

    async def ended(self, run_id: str) -> None:
        """Return once the Run has its terminal event; at once where this process has no such
        Run."""
        ...

    async def change(
        self,
        key: SessionKey,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float,
        stop: str | None = None,
    ) -> T:
        """Do `work`, which changes the Session's transcript, in the order of its Runs: behind the
        Runs that were dispatched before, ahead of the later ones, and beside none of them.

        `stop`: first stop those before, for that reason. Work that has begun is done to its end,
        also when the caller is cancelled, and only then does the next Run begin. Raises
        SessionBusy when the turn does not come within `patience` seconds: nothing was done then.
        """
        ...

    async def drain(self, grace: float) -> None:
        """Take no more Runs, let those there finish for `grace` seconds, abort the rest. Runs
        whose runners do not stop are not waited for."""
        ...
