"""Execution of Runs: the executor, the native agent loop, and recovery."""

from .client_calls import StoredCalls, check_results
from .compaction import Compactor, SummaryRefused, readable_tokens
from .decisions import refusal_of, requested_approval, waiting_for
from .execution import Execution, execution_of
from .executor import COMMAND_RUNNER, Executor
from .formatted import schema_check, withheld
from .generations import Generations
from .loop import TurnLoop
from .router import ModelAnswer, ModelRouter, Prompt
from .system_prompts import SystemPrompts

__all__ = [
    "COMMAND_RUNNER",
    "Compactor",
    "Execution",
    "Executor",
    "Generations",
    "ModelAnswer",
    "ModelRouter",
    "Prompt",
    "StoredCalls",
    "SummaryRefused",
    "SystemPrompts",
    "TurnLoop",
    "check_results",
    "execution_of",
    "readable_tokens",
    "refusal_of",
    "requested_approval",
    "schema_check",
    "waiting_for",
    "withheld",
]
