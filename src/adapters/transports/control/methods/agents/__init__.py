"""Methods that list and edit agents and their files."""

from .methods import handlers

__all__ = [
    "handlers",
]
