"""Execution of Runs: lanes, the dispatcher, the native agent loop and recovery."""

from .dispatcher import LocalDispatcher
from .generations import Generations
from .lanes import Lanes
from .loop import AgentLoop
from .recovery import recover

__all__ = [
    "AgentLoop",
    "Generations",
    "Lanes",
    "LocalDispatcher",
    "recover",
]
