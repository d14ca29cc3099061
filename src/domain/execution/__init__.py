"""Execution of Runs: the executor, the native agent loop, and recovery."""

from .executor import Executor
from .generations import Generations
from .loop import AgentLoop

__all__ = [
    "AgentLoop",
    "Executor",
    "Generations",
]
