"""Tools that a model may call."""

from .builtin import BuiltinTools
from .combined import CombinedToolbox
from .empty import EmptyToolbox
from .knowledge import WorkspaceKnowledge
from .policy import PolicyToolbox
from .schemas import SchemaValidator

__all__ = [
    "BuiltinTools",
    "CombinedToolbox",
    "EmptyToolbox",
    "PolicyToolbox",
    "SchemaValidator",
    "WorkspaceKnowledge",
]
