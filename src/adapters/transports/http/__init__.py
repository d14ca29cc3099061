"""What every HTTP transport shares: who asks, what the answer carries, how errors look, the log."""

from ..routes import ROUTES, Route
from .errors import Problem, Refused
from .exchange import principal
from .install import install

__all__ = ["ROUTES", "Problem", "Refused", "Route", "install", "principal"]
