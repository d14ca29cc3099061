"""Stores that keep nothing beyond the process."""

from .run_log import MemoryRunLog
from .store import MemoryStore

__all__ = [
    "MemoryRunLog",
    "MemoryStore",
]
