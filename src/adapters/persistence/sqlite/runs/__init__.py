"""Runs and their events in SQLite."""

from .run_events import SqliteRunEvents

__all__ = [
    "SqliteRunEvents",
]
