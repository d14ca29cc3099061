"""Methods that list and edit agents and their workspace files."""

from .methods import handlers

__all__ = [
    "handlers",
]
