"""Side tasks: requests of a chat client beside a conversation, such as for its title."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .messages import Message, Role, Text

SIDE_TASK_PATTERNS = (
    # Open WebUI.
    "### Task:",
    "Your task is to reflect the speaker's likely facial expression",
    # LibreChat.
    "Provide a concise, 5-word-or-less title for the conversation",
    "Please generate a concise, 5-word-or-less title for the conversation",
    "Analyze this conversation and provide:\n1. The detected language",
)
"""How the messages of side tasks begin, as the clients send them by default."""
_OTHER = "other"
_HEAD = 400
"""Characters of a message that say what is to be done. The conversation comes later."""
_NEXT_HEADING = re.compile(r"\n#")
_KINDS = re.compile(
    r"(?P<title>\btitle\b)"
    r"|(?P<tags>\btags?\b)"
    r"|(?P<follow_up>\bfollow-?up\b|\bsend next\b|\bask next\b)"
    r"|(?P<query>\bquer(?:y|ies)\b)"
    r"|(?P<image_prompt>\bimage\b)"
    r"|(?P<autocomplete>\bautocomplet)"
    r"|(?P<emoji>\bemoji\b)",
    re.IGNORECASE,
)


def side_task_in(messages: Sequence[Message], patterns: Sequence[str]) -> str:
    """The kind of side task that a conversation is; empty where it is none.

    A side task is one message of the user, apart from system messages, whose text begins with one
    of the `patterns`. Its kind is the first one that its text names, or `other`.
    """
    said = [message for message in messages if message.role is not Role.SYSTEM]
    if len(said) != 1 or said[0].role is not Role.USER:
        return ""
    if not all(isinstance(part, Text) for part in said[0].parts):
        return ""
    text = said[0].text.lstrip()
    if not text.startswith(tuple(patterns)):
        return ""
    task = text.removeprefix("### Task:").lstrip()
    found = _KINDS.search(_NEXT_HEADING.split(task[:_HEAD], maxsplit=1)[0])
    if found is None or found.lastgroup is None:
        return _OTHER
    return found.lastgroup.replace("_", "-")
