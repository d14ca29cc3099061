"""Copies the state of one process, in SQLite, into a database."""

from .importing import Comparison, Import, OnProgress
from .source import Source

__all__ = ["Comparison", "Import", "OnProgress", "Source"]
