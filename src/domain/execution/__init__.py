"""Execution of Runs: the executor, the native agent loop, and recovery."""

from .compaction import Compactor, SummaryRefused, readable_tokens
from .execution import Execution, execution_of
from .executor import COMMAND_RUNNER, Executor
from .generations import Generations
from .loop import TurnLoop
from .router import ModelRouter
from .system_prompts import SystemPrompts

__all__ = [
    "COMMAND_RUNNER",
    "Compactor",
    "Execution",
    "Executor",
    "Generations",
    "ModelRouter",
    "SummaryRefused",
    "SystemPrompts",
    "TurnLoop",
    "execution_of",
    "readable_tokens",
]
