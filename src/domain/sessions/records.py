"""What is kept of Sessions besides their messages, and how they are listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..messages import Message
from .keys import SessionKey

SessionSettingsMap = Mapping[str, str | bool | int]
"""What somebody has set for one Session (`label`, `thinkingLevel`, `modelOverride`, ...), under
the control protocol's names. The domain says what is allowed; a store only keeps it."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A Session as lists tell of it. Times: Unix seconds; counts: of its current transcript."""

    key: SessionKey
    session_id: str
    created_at: float
    updated_at: float
    message_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    model: str = ""
    """`provider/model` of the last turn; empty before the first."""
    one_off: bool = False
    compactions: int = 0
    """How many summaries its current transcript has had."""
    settings: SessionSettingsMap = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Which Sessions to list, newest first.

    `search` is looked for in key, session id and label, without regard to case.
    """

    agent_id: str | None = None
    updated_after: float | None = None
    search: str | None = None
    label: str | None = None
    spawned_by: str | None = None
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some Sessions, and how many the query finds in all."""

    sessions: tuple[SessionInfo, ...]
    total: int


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A Message with its number in its transcript, from 1, and its time in Unix seconds."""

    number: int
    at: float
    message: Message
    run_id: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which turns to sum up. `bounds`: Unix seconds, ascending, two at least: a period lies
    between each two that follow one another and does not include its end."""

    bounds: tuple[float, ...]
    agent_id: str | None = None
    key: SessionKey | None = None


@dataclass(frozen=True, slots=True)
class PeriodUsage:
    """Tokens of the turns of one period, agent and model.

    `period` counts from 0; `model`: `provider/model`; `first` and `last`: when the first and the
    last of the turns were stored, in Unix seconds.
    """

    period: int
    agent_id: str
    model: str
    turns: int
    messages: int
    input: int
    output: int
    cached: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class KeptTranscript:
    """A transcript of a Session, the current one or an earlier one."""

    session_id: str
    created_at: float
    message_count: int
    first_question: str | None = None
