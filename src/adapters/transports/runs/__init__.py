"""Runs over HTTP."""

from .transport import transport

__all__ = ["transport"]
