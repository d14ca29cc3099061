"""Execution of Runs: the executor, the native agent loop, and recovery."""

from .executor import Executor
from .generations import Generations
from .loop import TurnLoop
from .router import ModelRouter
from .system_prompts import SystemPrompts

__all__ = [
    "Executor",
    "Generations",
    "ModelRouter",
    "SystemPrompts",
    "TurnLoop",
]
