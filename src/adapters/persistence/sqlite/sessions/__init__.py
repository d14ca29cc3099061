"""Sessions in SQLite."""

from .approvals import SqliteApprovals
from .responses import SqliteResponses
from .store import SqliteStore

__all__ = [
    "SqliteApprovals",
    "SqliteResponses",
    "SqliteStore",
]
