"""PostgreSQL: sessions, runs and what else processes on several machines share.

Nothing outside imports this package before the configuration asks for PostgreSQL: the driver is an
optional dependency.
"""

from .administration import (
    DatabaseStatus,
    TableSize,
    are_one_database,
    database_status,
    migrate_database,
    pools_transactions,
)
from .bus import PostgresBus
from .configurations import PostgresConfigurations, with_configurations
from .database import Database
from .devices import PostgresDevices
from .heartbeats import PostgresHeartbeats
from .keys import PostgresKeys
from .limits import PostgresLimits
from .nodes import PostgresNodes
from .presence import PostgresPresence

__all__ = [
    "Database",
    "DatabaseStatus",
    "PostgresBus",
    "PostgresConfigurations",
    "PostgresDevices",
    "PostgresHeartbeats",
    "PostgresKeys",
    "PostgresLimits",
    "PostgresNodes",
    "PostgresPresence",
    "TableSize",
    "are_one_database",
    "database_status",
    "migrate_database",
    "pools_transactions",
    "with_configurations",
]
