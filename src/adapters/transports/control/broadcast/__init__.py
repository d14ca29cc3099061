"""Sends events to many connections: runs, sessions, presence and health."""

from .approvals import approval_row, broadcast_approvals
from .hub import (
    HEALTH_SECONDS,
    MAX_CONNECTIONS,
    TICK_SECONDS,
    Hub,
    broadcast_session_changes,
)
from .payloads import RunPayloads, chat_event, message_ids, message_of, sender_key, usage_of
from .presence import Presence

__all__ = [
    "HEALTH_SECONDS",
    "MAX_CONNECTIONS",
    "TICK_SECONDS",
    "Hub",
    "Presence",
    "RunPayloads",
    "approval_row",
    "broadcast_approvals",
    "broadcast_session_changes",
    "chat_event",
    "message_ids",
    "message_of",
    "sender_key",
    "usage_of",
]
