"""Stores that keep nothing beyond the process."""

from .approvals import MemoryApprovals
from .limits import MemoryLimits
from .run_events import MemoryRunEvents
from .store import MemoryStore

__all__ = [
    "MemoryApprovals",
    "MemoryLimits",
    "MemoryRunEvents",
    "MemoryStore",
]
