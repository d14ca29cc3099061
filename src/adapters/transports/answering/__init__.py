"""What the transports that answer with a run share, whatever their wire format: the headers that
bind a request, its parameters, its run, approvals, and answers that are complete, streamed, or
begun before."""

from . import parameters
from .approvals import (
    APPROVAL_HEADER,
    PAUSED,
    ApprovalPause,
    AskingEvents,
    decided_run,
    decision_in,
    description_of,
    question_for,
    waits_for_approval,
    without_decisions,
)
from .begin import BegunRun, begin_run, follow_run, run_request_of
from .headers import BINDING_HEADERS, SESSION_HINT, ignored_names
from .parameters import Parameters, read_fields
from .resuming import (
    RESUME_HEADERS,
    continues_without_client,
    idempotency_key_in,
    start_submitted_run,
    text_of,
)
from .runs import EVENT_STREAM, Answer, Feed, RunFrames, collect, start_run, streamed

__all__ = [
    "APPROVAL_HEADER",
    "BINDING_HEADERS",
    "EVENT_STREAM",
    "PAUSED",
    "RESUME_HEADERS",
    "SESSION_HINT",
    "Answer",
    "ApprovalPause",
    "AskingEvents",
    "BegunRun",
    "Feed",
    "Parameters",
    "RunFrames",
    "begin_run",
    "collect",
    "continues_without_client",
    "decided_run",
    "decision_in",
    "description_of",
    "follow_run",
    "idempotency_key_in",
    "ignored_names",
    "parameters",
    "question_for",
    "read_fields",
    "run_request_of",
    "start_run",
    "start_submitted_run",
    "streamed",
    "text_of",
    "waits_for_approval",
    "without_decisions",
]
