"""Stores that keep nothing beyond the process."""

from .run_events import MemoryRunEvents
from .store import MemoryStore

__all__ = [
    "MemoryRunEvents",
    "MemoryStore",
]
