"""Sessions, and what is kept beside them, in PostgreSQL."""

from .approvals import PostgresApprovals
from .changes import PostgresSessionChanges
from .responses import PostgresResponses
from .store import PostgresStore
from .summary_locks import PostgresSummaryLocks

__all__ = [
    "PostgresApprovals",
    "PostgresResponses",
    "PostgresSessionChanges",
    "PostgresStore",
    "PostgresSummaryLocks",
]
