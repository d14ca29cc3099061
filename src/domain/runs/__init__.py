"""Runs: what is asked, the events, and the records that are kept."""

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
    RunEvent,
    RunnerEvent,
    Started,
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
    "EventBatch",
    "Failed",
    "Finished",
    "NumberedEvent",
    "OnLeave",
    "RunEvent",
    "RunPage",
    "RunQuery",
    "RunRecord",
    "RunRequest",
    "RunSpec",
    "RunStatus",
    "RunnerEvent",
    "Started",
    "digest",
    "error_of",
    "failed_event",
    "record_of",
    "status_after",
]
