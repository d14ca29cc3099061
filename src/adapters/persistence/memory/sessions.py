"""What the store in memory keeps of a Session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ....domain.messages import Message, Role
from ....domain.models import Usage
from ....domain.ports import Turn
from ....domain.sessions import (
    KeptMessage,
    KeptTranscript,
    SessionInfo,
    SessionKey,
    SessionSettingsMap,
    Summary,
)


@dataclass(slots=True)
class HeldTranscript:
    session_id: str
    created_at: float
    messages: list[Message] = field(default_factory=list)
    kept: list[KeptMessage] = field(default_factory=list)
    """The same messages, each with where it comes from."""
    input_tokens: int = 0
    output_tokens: int = 0
    summaries: list[Summary] = field(default_factory=list)
    """In the order of `through`; the last one counts."""

    @property
    def summary(self) -> Summary | None:
        return self.summaries[-1] if self.summaries else None

    def add(self, turn: Turn) -> None:
        usage = turn.usage or Usage(0, 0)
        self.input_tokens += usage.input
        self.output_tokens += usage.output
        self.messages.extend(turn.messages)
        for number, message in enumerate(turn.messages, len(self.kept) + 1):
            self.kept.append(KeptMessage(number, turn.at, message, turn.run_id, turn.model))

    def copy(self, kept: Iterable[KeptMessage]) -> None:
        """Take over messages of an earlier transcript, numbered anew."""
        for number, old in enumerate(kept, len(self.kept) + 1):
            self.messages.append(old.message)
            self.kept.append(KeptMessage(number, old.at, old.message, old.run_id, old.model))

    def record(self) -> KeptTranscript:
        questions = (message.text for message in self.messages if message.role is Role.USER)
        count = len(self.messages)
        return KeptTranscript(self.session_id, self.created_at, count, next(questions, None))


@dataclass(slots=True)
class HeldSession:
    key: SessionKey
    created_at: float
    updated_at: float
    one_off: bool = False
    model: str = ""
    settings: SessionSettingsMap = field(default_factory=dict)
    """Another one after each change, since those who loaded it keep it."""
    transcripts: list[HeldTranscript] = field(default_factory=list)
    """The newest, which is the current one, is the last."""
    run_ids: list[str] = field(default_factory=list)
    kept_from: float = 0.0
    size: int = 0
    """Bytes of all turns of a one-off session."""

    @property
    def current(self) -> HeldTranscript:
        return self.transcripts[-1]

    def named(self, session_id: str) -> HeldTranscript | None:
        """The newest transcript of that id."""
        return next((t for t in reversed(self.transcripts) if t.session_id == session_id), None)

    def begin(self, session_id: str, at: float) -> HeldTranscript:
        """A new transcript, empty, which is the current one from now on."""
        self.transcripts.append(HeldTranscript(session_id, at))
        return self.current

    def add(self, turn: Turn) -> Turn:
        """Add the turn; returns it with the id of its transcript."""
        # Who comes back to a one-off session by its key has made it a lasting one.
        self.one_off = self.one_off and turn.one_off
        self.run_ids.append(turn.run_id)
        place = self.named(turn.session_id) or self._begin_for(turn)
        place.add(turn)
        if place is self.current:  # Else the session has gone on without this turn.
            self.updated_at, self.model = turn.at, turn.model
        if place.session_id == turn.session_id:
            return turn
        return replace(turn, session_id=place.session_id)

    def _begin_for(self, turn: Turn) -> HeldTranscript:
        """The transcript of a turn whose transcript is not there yet."""
        span = turn.history
        old = None if span is None else self.named(span.session_id)
        if span is None or old is None:
            return self.begin(turn.session_id, turn.at)
        if old is not self.current and not span.exact:
            return old
        return self.branch(span.through, turn.session_id, turn.at, old)

    def branch(
        self, through: int, session_id: str, at: float, origin: HeldTranscript | None = None
    ) -> HeldTranscript:
        """A new transcript with the first `through` messages of another one, of the current one
        without `origin`."""
        old = origin or self.current
        new = self.begin(session_id, at)
        new.copy(old.kept[: max(0, through)])
        new.summaries = [one for one in old.summaries if one.through <= len(new.kept)]
        return new

    def info(self) -> SessionInfo:
        return SessionInfo(
            key=self.key,
            session_id=self.current.session_id,
            created_at=self.created_at,
            updated_at=self.updated_at,
            message_count=len(self.current.messages),
            input_tokens=self.current.input_tokens,
            output_tokens=self.current.output_tokens,
            model=self.model,
            one_off=self.one_off,
            compactions=len(self.current.summaries),
            settings=self.settings,
        )
