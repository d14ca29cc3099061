"""Where Sessions are kept, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..immutable import immutable
from ..messages import Message
from ..models import StopReason, Usage
from ..runs import Step
from ..sessions import (
    KeptMessage,
    KeptTranscript,
    PeriodUsage,
    SessionInfo,
    SessionKey,
    SessionPage,
    SessionQuery,
    SessionSettingsMap,
    Span,
    Summary,
    Transcript,
    UsageQuery,
)


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A Session as kept. `session_id` names its current transcript; times are Unix seconds."""

    key: SessionKey
    session_id: str
    updated_at: float
    message_count: int
    """Of the current transcript."""
    tail: Transcript
    """The newest messages, behind the summary."""
    settings: SessionSettingsMap = field(default_factory=dict)


@immutable(frozen=True, slots=True)
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
    stop: StopReason | None = None
    """Why the answer ended; None where it is not known, as of turns of earlier versions."""
    attempt: int = field(default=0, compare=False)
    """The fencing token: the attempt of the Run that has the answer. 0: whichever is stored. It is
    not stored."""
    history: Span | None = field(default=None, compare=False)
    """The messages that the turn follows; None: all of its transcript. A turn that follows those of
    another transcript begins a branch of it. It is not stored."""


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """The turn of a Run that has no answer yet: what is stored before the answer is."""

    key: SessionKey
    session_id: str
    """As in Turn; empty where the Session had no transcript when the Run began: the turn then goes
    to the current one."""
    run_id: str
    at: float
    question: tuple[Message, ...]
    attempt: int = 1
    """The fencing token: what an earlier attempt of the Run writes is refused."""
    one_off: bool = False
    steps: tuple[Step, ...] = ()
    history: Span | None = None
    """As in Turn."""


class SessionStore(Protocol):
    """Where Sessions are kept. Raises StoreFailed when it cannot do what it promises."""

    async def open(self) -> None:
        """Make ready: files, schema, migrations."""
        ...

    async def load(
        self, key: SessionKey, budget: int, *, result_chars: int | None = None
    ) -> StoredSession | None:
        """The Session with its summary, and the newest messages behind it whose estimates fit
        `budget` tokens together. Long results of tools are returned whole, and count as they are
        sent: shortened to `result_chars` characters; None: whole.

        None when nothing is kept under the key. Reads no more than the budget asks for.
        """
        ...

    async def put_summary(
        self,
        key: SessionKey,
        session_id: str,
        summary: Summary,
        *,
        run_id: str = "",
        attempt: int = 0,
    ) -> bool:
        """Have `load` return the summary in place of the first messages of the transcript, which
        stay where they are. Returns when it is durable.

        False, and nothing changes, where the transcript is not the current one, has fewer messages
        than `summary.through`, or has a summary of as many. `attempt` is the fencing token of the
        Run that made the summary: raises LeaseLost where a later attempt has stored a step, or
        the turn is stored.
        """
        ...

    async def append(self, turn: Turn) -> None:
        """Store the turn, all or nothing, and remove the OpenTurn of its Run. Returns when it is
        durable: it survives `kill -9`.

        A second turn with the `run_id` of a stored one changes nothing. Raises LeaseLost where a
        later attempt than the turn's has stored a step.

        A turn whose `history` is of another transcript begins a new one, which holds copies of
        the first `history.through` messages and the summaries of these, and becomes the current
        one. Where that other transcript is not the current one any more, the turn is added to it
        instead, and the Session goes on as it is, unless `history.exact`.
        """
        ...

    async def append_step(self, turn: OpenTurn, number: int, step: Step) -> None:
        """Store step `number` (from 1) of the turn in place of what was stored under that number;
        later steps of earlier attempts are removed. `turn.steps` is not looked at. Returns when the
        step is durable.

        Raises LeaseLost where a later attempt has stored a step, or the turn is stored.
        """
        ...

    async def open_turn(self, run_id: str, attempt: int) -> OpenTurn | None:
        """The open turn of that Run with its steps, for its attempt `attempt`: what earlier ones
        write from now on is refused. None where no step is stored. Raises LeaseLost where a later
        attempt has it."""
        ...

    async def open_turns(self) -> tuple[OpenTurn, ...]:
        """All open turns, without their steps."""
        ...

    async def end_turn(self, turn: OpenTurn, *, note: str, at: float) -> bool:
        """Store the turn of a Run that ends without an answer, as `runs.closed` says of the stored
        steps, and remove the open turn. False where there is none. Of `turn` only the Run, the key
        and the attempt count. A turn that would begin a branch is removed and not stored: the
        Session stays on its current transcript. Raises LeaseLost where a later attempt has it;
        attempt 0: never."""
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


class SummaryLocks(Protocol):
    """Of the processes of a Gateway, one at a time has a summary of a Session written. Raises
    StoreFailed."""

    async def lock(self, key: SessionKey, seconds: float) -> bool:
        """Keep other processes from it until `unlock`, for at most so long. False where another one
        keeps this one from it. The lock of a process that has died ends by itself."""
        ...

    async def unlock(self, key: SessionKey) -> None:
        """End the lock."""
        ...


@runtime_checkable
class SessionCatalog(Protocol):
    """What is known of the Sessions in the store besides the turn that goes on now: for lists, for
    people who look and tidy up. A store that has none can still serve runs. Raises StoreFailed."""

    async def turn(self, run_id: str) -> Turn | None:
        """The turn that the Run of that id stored; None when it stored none."""
        ...

    async def span(self, run_id: str) -> Span | None:
        """The transcript up to the last message of that turn, without the turn itself being read;
        None when there is none."""
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

        Where processes share the Sessions, one of them may have taken what a caller has found free:
        the owner of a Session that is there stays, and InvalidRequest is raised for a label that
        another Session has.
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

    async def branch(
        self, key: SessionKey, through: int, *, at: float, new_id: str
    ) -> SessionInfo | None:
        """Go on in a new transcript `new_id` that holds copies of the current one's messages up to
        number `through`; the old transcript is kept. None when nothing is kept under the key."""
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

    async def messages_since_pause(self, key: SessionKey, seconds: float) -> int:
        """How many of the newest messages of the current transcript were stored after the last
        pause of at least `seconds` between two turns; all, where there was none."""
        ...

    async def transcripts(self, key: SessionKey, limit: int) -> tuple[KeptTranscript, ...]:
        """A Session's transcripts, newest first."""
        ...

    async def usage(self, query: UsageQuery) -> tuple[PeriodUsage, ...]:
        """Tokens by period, agent and model, in that order."""
        ...
