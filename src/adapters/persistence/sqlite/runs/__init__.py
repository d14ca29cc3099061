"""Runs and their events in SQLite."""

from .run_log import SqliteRunLog

__all__ = [
    "SqliteRunLog",
]
