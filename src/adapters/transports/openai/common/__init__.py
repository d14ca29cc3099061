"""What OpenAI's formats have in common: messages, tools and models."""

from .messages import MESSAGES_SCHEMA, read_messages
from .models import DEFAULT_MODEL
from .streams import Stop, StreamOptions, wants_usage
from .tools import CHOICE_SCHEMA, TOOL_FIELDS, TOOLS_SCHEMA, ReadTools, read_tools
from .usage import USAGE_SCHEMA, usage_object

__all__ = [
    "CHOICE_SCHEMA",
    "DEFAULT_MODEL",
    "MESSAGES_SCHEMA",
    "TOOLS_SCHEMA",
    "TOOL_FIELDS",
    "USAGE_SCHEMA",
    "ReadTools",
    "Stop",
    "StreamOptions",
    "read_messages",
    "read_tools",
    "usage_object",
    "wants_usage",
]
