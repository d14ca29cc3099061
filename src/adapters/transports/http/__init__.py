"""What every HTTP transport shares: who asks, what the answer carries, how errors look, the log."""

from ..routes import ROUTES, Route
from .context import principal
from .errors import HttpRejection, Problem
from .install import install

__all__ = ["ROUTES", "HttpRejection", "Problem", "Route", "install", "principal"]
