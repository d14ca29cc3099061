"""The settings in force."""

from __future__ import annotations

from collections.abc import Callable

from ..settings import Settings

CurrentSettings = Callable[[], Settings]
"""The settings in force now. Ask for every request, and once per request."""
