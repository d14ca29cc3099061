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
from .headers import (
    ANSWER_HEADERS,
    BINDING_HEADERS,
    SESSION_HINT,
    ignored_names,
    model_in,
    session_key_in,
)
from .parameters import Parameters, read_fields
from .resuming import (
    RESUME_HEADERS,
    CurrentEvents,
    continues_without_client,
    events_of_turn,
    idempotency_key_in,
    start_submitted_run,
    text_of,
)
from .runs import (
    EVENT_STREAM,
    Answer,
    Feed,
    RunFrames,
    collect,
    sent_text_is_void,
    start_run,
    streamed,
)

__all__ = [
    "ANSWER_HEADERS",
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
    "CurrentEvents",
    "Feed",
    "Parameters",
    "RunFrames",
    "begin_run",
    "collect",
    "continues_without_client",
    "decided_run",
    "decision_in",
    "description_of",
    "events_of_turn",
    "follow_run",
    "idempotency_key_in",
    "ignored_names",
    "model_in",
    "parameters",
    "question_for",
    "read_fields",
    "run_request_of",
    "sent_text_is_void",
    "session_key_in",
    "start_run",
    "start_submitted_run",
    "streamed",
    "text_of",
    "waits_for_approval",
    "without_decisions",
]
