"""Time and identifiers."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Unix time in seconds."""


NewId = Callable[[], str]
"""A fresh identifier, unique, sortable by time: letters, digits and dashes only."""
