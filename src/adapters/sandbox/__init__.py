"""Confines processes with bubblewrap."""

from .bubblewrap import Bubblewrap

__all__ = ["Bubblewrap"]
