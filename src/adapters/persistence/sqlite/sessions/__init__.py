"""Sessions in SQLite."""

from .approvals import SqliteApprovals
from .store import SqliteStore

__all__ = [
    "SqliteApprovals",
    "SqliteStore",
]
