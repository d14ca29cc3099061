"""What OpenAI's formats have in common: messages, tools, models and what headers add."""

from .extras import EXTRA_HEADERS, Extras, extras_in
from .messages import MESSAGES_SCHEMA, read_messages
from .models import DEFAULT_MODEL, model_list, model_object
from .tools import CHOICE_SCHEMA, TOOL_FIELDS, TOOLS_SCHEMA, ReadTools, read_tools

__all__ = [
    "CHOICE_SCHEMA",
    "DEFAULT_MODEL",
    "EXTRA_HEADERS",
    "MESSAGES_SCHEMA",
    "TOOLS_SCHEMA",
    "TOOL_FIELDS",
    "Extras",
    "ReadTools",
    "extras_in",
    "model_list",
    "model_object",
    "read_messages",
    "read_tools",
]
