"""Sessions, and what is kept beside them, in PostgreSQL."""

from .approvals import PostgresApprovals
from .responses import PostgresResponses
from .store import PostgresStore

__all__ = ["PostgresApprovals", "PostgresResponses", "PostgresStore"]
