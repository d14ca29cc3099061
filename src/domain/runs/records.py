"""What is kept of a Run besides its events: enough to list it, find it again and tell how it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..errors import RunInterrupted
from ..immutable import immutable
from ..sessions import SessionKey
from .consumers import consumes
from .events import (
    CONTEXT_EVENTS,
    DELTAS,
    TERMINAL,
    TOOL_EVENTS,
    Aborted,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    Waiting,
)
from .spec import OnLeave, RunSpec


class RunStatus(StrEnum):
    """Where a Run stands. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    """For a signal, such as a decision about an approval."""
    FINISHED = "finished"
    FAILED = "failed"
    ABORTED = "aborted"
    INTERRUPTED = "interrupted"
    """The Gateway died while the Run was going on."""

    @property
    def final(self) -> bool:
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING)


@immutable(frozen=True, slots=True)
class RunRecord:
    """A Run as kept. Times are Unix seconds."""

    id: str
    session_key: SessionKey
    agent_id: str
    principal_id: str
    source: str
    """Through which entry point it came: `openai`, `agent`, `chat`."""
    on_leave: OnLeave = OnLeave.ABORT
    fingerprint: str = ""
    """A digest of what was asked, where the client chose the id: distinguishes a repeated request
    from another one under the same id."""
    status: RunStatus = RunStatus.QUEUED
    accepted_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    last_seq: int = 0
    owner: str = ""
    """Who executes it, or did last: an executor in one process."""
    attempt: int = 0
    """How many times it was begun."""
    lease_until: float | None = None
    """When the owner loses it, unless it renews its lease."""


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which Runs to list, newest first. `cursor` is what a page before handed out."""

    session_key: SessionKey | None = None
    agent_id: str | None = None
    principal_id: str | None = None
    status: RunStatus | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some Runs; `next_cursor` is None on the last page."""

    runs: tuple[RunRecord, ...]
    next_cursor: str | None = None


def record_of(spec: RunSpec, *, fingerprint: str = "") -> RunRecord:
    """The record that a Run begins with."""
    return RunRecord(
        id=spec.id,
        session_key=spec.session_key,
        agent_id=spec.agent_id,
        principal_id=spec.principal_id,
        source=spec.source,
        on_leave=spec.on_leave,
        fingerprint=fingerprint,
        accepted_at=spec.accepted_at,
    )


@consumes(
    Started, Resumed, Waiting, *TERMINAL, ignores=(*DELTAS, *TOOL_EVENTS, *CONTEXT_EVENTS, StepDone)
)
def status_after(event: RunEvent) -> RunStatus | None:
    """The status that an event brings a Run to; None where it changes nothing."""
    match event:
        case Started() | Resumed():
            return RunStatus.RUNNING
        case Waiting():
            return RunStatus.WAITING
        case Finished():
            return RunStatus.FINISHED
        case Aborted():
            return RunStatus.ABORTED
        case Failed(code=RunInterrupted.code):
            return RunStatus.INTERRUPTED
        case Failed():
            return RunStatus.FAILED
    return None
