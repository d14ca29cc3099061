"""What OpenAI's formats have in common: messages, tools and models."""

from .messages import MESSAGES_SCHEMA, read_messages
from .models import DEFAULT_MODEL, model_list, model_object
from .tools import CHOICE_SCHEMA, TOOL_FIELDS, TOOLS_SCHEMA, ReadTools, read_tools

__all__ = [
    "CHOICE_SCHEMA",
    "DEFAULT_MODEL",
    "MESSAGES_SCHEMA",
    "TOOLS_SCHEMA",
    "TOOL_FIELDS",
    "ReadTools",
    "model_list",
    "model_object",
    "read_messages",
    "read_tools",
]
