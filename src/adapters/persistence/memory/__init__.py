"""Stores that keep nothing beyond the process."""

from .approvals import MemoryApprovals
from .bus import SingleNode
from .heartbeats import MemoryHeartbeats
from .key_counters import MemoryKeyCounters
from .keys import MemoryKeys
from .limits import MemoryLimits
from .nodes import OneNode
from .responses import MemoryResponses
from .run_events import MemoryRunEvents
from .store import MemoryStore

__all__ = [
    "MemoryApprovals",
    "MemoryHeartbeats",
    "MemoryKeyCounters",
    "MemoryKeys",
    "MemoryLimits",
    "MemoryResponses",
    "MemoryRunEvents",
    "MemoryStore",
    "OneNode",
    "SingleNode",
]
