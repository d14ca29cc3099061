"""What OpenAI's formats have in common: messages, parameters, runs, answers and streams."""

from .approvals import APPROVAL_HEADER, ApprovalPause, decided_run, decision_in, waits_for_approval
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
from .runs import Answer, Feed, collect, start_run, streamed
from .tools import CHOICE_SCHEMA, TOOL_FIELDS, TOOLS_SCHEMA, ReadTools, read_tools

__all__ = [
    "APPROVAL_HEADER",
    "BINDING_HEADERS",
    "CHOICE_SCHEMA",
    "DEFAULT_MODEL",
    "MESSAGES_SCHEMA",
    "SESSION_HINT",
    "TOOLS_SCHEMA",
    "TOOL_FIELDS",
    "Answer",
    "ApprovalPause",
    "Feed",
    "Ignored",
    "MediaPart",
    "Parameters",
    "ReadTools",
    "agent_id_in",
    "collect",
    "conversation_in",
    "decided_run",
    "decision_in",
    "ignored_names",
    "model_in",
    "model_list",
    "model_object",
    "read_fields",
    "read_messages",
    "read_tools",
    "session_key_in",
    "start_run",
    "streamed",
    "waits_for_approval",
]
