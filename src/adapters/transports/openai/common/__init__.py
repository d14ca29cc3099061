"""What OpenAI's formats have in common: messages, parameters, runs, answers and streams."""

from .approvals import (
    APPROVAL_HEADER,
    ApprovalPause,
    AskingEvents,
    decided_run,
    decision_in,
    waits_for_approval,
    without_decisions,
)
from .fields import Ignored
from .headers import (
    BINDING_HEADERS,
    SESSION_HINT,
    agent_id_in,
    conversation_in,
    ignored_names,
    model_in,
    session_key_in,
)
from .media_parts import MediaPart
from .messages import MESSAGES_SCHEMA, read_messages
from .models import DEFAULT_MODEL, model_list, model_object
from .parameters import (
    Parameters,
    read_fields,
)
from .resuming import (
    RESUME_HEADERS,
    continues_without_client,
    idempotency_key_in,
    start_submitted_run,
    text_of,
)
from .runs import EVENT_STREAM, Answer, Feed, RunFrames, collect, start_run, streamed
from .switch import CHAT_SWITCH, chat_limits
from .tools import CHOICE_SCHEMA, TOOL_FIELDS, TOOLS_SCHEMA, ReadTools, read_tools

__all__ = [
    "APPROVAL_HEADER",
    "BINDING_HEADERS",
    "CHAT_SWITCH",
    "CHOICE_SCHEMA",
    "DEFAULT_MODEL",
    "EVENT_STREAM",
    "MESSAGES_SCHEMA",
    "RESUME_HEADERS",
    "SESSION_HINT",
    "TOOLS_SCHEMA",
    "TOOL_FIELDS",
    "Answer",
    "ApprovalPause",
    "AskingEvents",
    "Feed",
    "Ignored",
    "MediaPart",
    "Parameters",
    "ReadTools",
    "RunFrames",
    "agent_id_in",
    "chat_limits",
    "collect",
    "continues_without_client",
    "conversation_in",
    "decided_run",
    "decision_in",
    "idempotency_key_in",
    "ignored_names",
    "model_in",
    "model_list",
    "model_object",
    "read_fields",
    "read_messages",
    "read_tools",
    "session_key_in",
    "start_run",
    "start_submitted_run",
    "streamed",
    "text_of",
    "waits_for_approval",
    "without_decisions",
]
