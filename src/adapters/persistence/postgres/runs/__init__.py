"""Runs and their events in PostgreSQL."""

from .bells import Bells
from .run_events import PostgresRunEvents
from .run_queue import LEASE_SECONDS, PostgresQueue
from .slots import DEEPEST

__all__ = [
    "DEEPEST",
    "LEASE_SECONDS",
    "Bells",
    "PostgresQueue",
    "PostgresRunEvents",
]
