"""What OpenAI's formats have in common: messages, tools, models and what headers add."""

from .extras import EXTRA_HEADERS, Extras, extras_in
from .messages import MESSAGES_SCHEMA, read_messages
from .models import DEFAULT_MODEL
from .streams import Stop, StreamOptions, wants_usage
from .tools import CHOICE_SCHEMA, TOOL_FIELDS, TOOLS_SCHEMA, ReadTools, read_tools
from .usage import USAGE_SCHEMA, usage_object

__all__ = [
    "CHOICE_SCHEMA",
    "DEFAULT_MODEL",
    "EXTRA_HEADERS",
    "MESSAGES_SCHEMA",
    "TOOLS_SCHEMA",
    "TOOL_FIELDS",
    "USAGE_SCHEMA",
    "Extras",
    "ReadTools",
    "Stop",
    "StreamOptions",
    "extras_in",
    "read_messages",
    "read_tools",
    "usage_object",
    "wants_usage",
]
