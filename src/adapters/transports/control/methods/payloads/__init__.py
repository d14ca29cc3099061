"""Payloads shared by several methods."""

from .messages import content, message_object, one_line, shortened, shrunk
from .outcomes import Outcomes, agent_payload, failed_answer
from .sessions import Extras, Rows, lowered
from .short_ids import with_short_id

__all__ = [
    "Extras",
    "Outcomes",
    "Rows",
    "agent_payload",
    "content",
    "failed_answer",
    "lowered",
    "message_object",
    "one_line",
    "shortened",
    "shrunk",
    "with_short_id",
]
