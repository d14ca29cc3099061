"""Methods that list, search and change sessions."""

from .methods import handlers

__all__ = [
    "handlers",
]
