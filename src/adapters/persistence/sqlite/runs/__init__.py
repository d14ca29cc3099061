"""Runs and their events in SQLite."""

from .run_events import SqliteRunEvents
from .schema import RUNS

__all__ = [
    "RUNS",
    "SqliteRunEvents",
]
