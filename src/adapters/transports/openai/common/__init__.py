"""What OpenAI's formats have in common: messages, tools, models and what headers add."""

from .extras import EXTRA_HEADERS, Extras, extras_in
from .media_parts import MEDIA_KINDS, read_media_part
from .messages import MAX_MESSAGES, MAX_PARTS, MESSAGES_SCHEMA, read_messages
from .models import DEFAULT_MODEL
from .streams import Stop, StreamOptions, wants_usage
from .tools import (
    CHOICE_SCHEMA,
    FUNCTION_FIELDS,
    MAX_TOOLS,
    TOOL_FIELDS,
    TOOLS_SCHEMA,
    ReadTools,
    ToolReader,
    check_named,
    read_tools,
    refuse_choice,
)
from .usage import USAGE_SCHEMA, usage_object

__all__ = [
    "CHOICE_SCHEMA",
    "DEFAULT_MODEL",
    "EXTRA_HEADERS",
    "FUNCTION_FIELDS",
    "MAX_MESSAGES",
    "MAX_PARTS",
    "MAX_TOOLS",
    "MEDIA_KINDS",
    "MESSAGES_SCHEMA",
    "TOOLS_SCHEMA",
    "TOOL_FIELDS",
    "USAGE_SCHEMA",
    "Extras",
    "ReadTools",
    "Stop",
    "StreamOptions",
    "ToolReader",
    "check_named",
    "extras_in",
    "read_media_part",
    "read_messages",
    "read_tools",
    "refuse_choice",
    "usage_object",
    "wants_usage",
]
