"""Logging: format, files, bounds and the ring of recent lines."""

from .bounds import LogBounds
from .ring import LogRing
from .setup import configure
from .values import masked

__all__ = [
    "LogBounds",
    "LogRing",
    "configure",
    "masked",
]
