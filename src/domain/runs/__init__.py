"""Runs: what is asked, the events, and the records that are kept."""

from .claims import ApprovalDecided, Claim, Inbox, MessageInjected, Signal, Submission
from .digests import digest
from .events import (
    DELTAS,
    TERMINAL,
    Aborted,
    Answered,
    EventBatch,
    Failed,
    Finished,
    NumberedEvent,
    Resumed,
    RunEvent,
    RunnerEvent,
    Started,
    Waiting,
    error_of,
    failed_event,
)
from .records import RunPage, RunQuery, RunRecord, RunStatus, record_of, status_after
from .spec import CONTENT, OnLeave, RunRequest, RunSpec

__all__ = [
    "CONTENT",
    "DELTAS",
    "TERMINAL",
    "Aborted",
    "Answered",
    "ApprovalDecided",
    "Claim",
    "EventBatch",
    "Failed",
    "Finished",
    "Inbox",
    "MessageInjected",
    "NumberedEvent",
    "OnLeave",
    "Resumed",
    "RunEvent",
    "RunPage",
    "RunQuery",
    "RunRecord",
    "RunRequest",
    "RunSpec",
    "RunStatus",
    "RunnerEvent",
    "Signal",
    "Started",
    "Submission",
    "Waiting",
    "digest",
    "error_of",
    "failed_event",
    "record_of",
    "status_after",
]
