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
from .calls import PostgresCalls
from .configurations import PostgresConfigurations, with_configurations
from .database import CONNECTIONS_OF_NODE, Database
from .devices import PostgresDevices
from .heartbeats import PostgresHeartbeats
from .key_counters import PostgresKeyCounters
from .keys import PostgresKeys
from .limits import PostgresLimits
from .meter import PostgresMeter
from .nodes import PostgresNodes
from .presence import PostgresPresence

__all__ = [
    "CONNECTIONS_OF_NODE",
    "Database",
    "DatabaseStatus",
    "PostgresBus",
    "PostgresCalls",
    "PostgresConfigurations",
    "PostgresDevices",
    "PostgresHeartbeats",
    "PostgresKeyCounters",
    "PostgresKeys",
    "PostgresLimits",
    "PostgresMeter",
    "PostgresNodes",
    "PostgresPresence",
    "TableSize",
    "are_one_database",
    "database_status",
    "migrate_database",
    "pools_transactions",
    "with_configurations",
]
