"""Execution of Runs: lanes, the dispatcher, the native agent loop and recovery."""

from .dispatcher import LocalDispatcher
from .lanes import Lanes
from .loop import AgentLoop
from .recovery import recover

__all__ = [
    "AgentLoop",
    "Lanes",
    "LocalDispatcher",
    "recover",
]
