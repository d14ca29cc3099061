"""Execution of Runs: the executor, the native agent loop, and recovery."""

from .executor import COMMAND_RUNNER, Executor
from .generations import Generations
from .loop import TurnLoop
from .router import ModelRouter

__all__ = [
    "COMMAND_RUNNER",
    "Executor",
    "Generations",
    "ModelRouter",
    "TurnLoop",
]
