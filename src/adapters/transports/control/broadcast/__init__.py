"""Events to many connections: subscriptions, presence and runs that are watched."""

from .changes import tell_changes
from .hub import HEALTH_SECONDS, MAX_CONNECTIONS, TICK_SECONDS, Hub
from .payloads import RunPayloads, message_ids, message_of, sender_key, usage_of
from .presence import Presence

__all__ = [
    "HEALTH_SECONDS",
    "MAX_CONNECTIONS",
    "TICK_SECONDS",
    "Hub",
    "Presence",
    "RunPayloads",
    "message_ids",
    "message_of",
    "sender_key",
    "tell_changes",
    "usage_of",
]
