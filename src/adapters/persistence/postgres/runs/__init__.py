"""Runs and their events in PostgreSQL."""

from .run_events import PostgresRunEvents
from .run_queue import LEASE_SECONDS, PostgresQueue

__all__ = [
    "LEASE_SECONDS",
    "PostgresQueue",
    "PostgresRunEvents",
]
