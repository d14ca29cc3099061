"""Sends events to many connections: runs, sessions, presence and health."""

from .approvals import approval_row, broadcast_approvals
from .hub import HEALTH_SECONDS, MAX_CONNECTIONS, TICK_SECONDS, Hub
from .other_nodes import HEARTBEATS, NODES_SECONDS, OtherNodes
from .payloads import RunPayloads, message_ids, message_of, sender_key, usage_of
from .presence import Presence
from .shared_presence import SharedPresence

__all__ = [
    "HEALTH_SECONDS",
    "HEARTBEATS",
    "MAX_CONNECTIONS",
    "NODES_SECONDS",
    "TICK_SECONDS",
    "Hub",
    "OtherNodes",
    "Presence",
    "RunPayloads",
    "SharedPresence",
    "approval_row",
    "broadcast_approvals",
    "message_ids",
    "message_of",
    "sender_key",
    "usage_of",
]
