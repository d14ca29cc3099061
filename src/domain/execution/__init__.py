"""Execution of Runs: the executor, the native agent loop, and recovery."""

from .executor import Executor
from .generations import Generations
from .loop import TurnLoop
from .router import ModelRouter

__all__ = [
    "Executor",
    "Generations",
    "ModelRouter",
    "TurnLoop",
]
