"""Stores that keep nothing beyond the process."""

from .approvals import MemoryApprovals
from .run_events import MemoryRunEvents
from .store import MemoryStore

__all__ = [
    "MemoryApprovals",
    "MemoryRunEvents",
    "MemoryStore",
]
