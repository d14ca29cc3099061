"""Tools that a model may call."""

from .builtin import BuiltinTools, Fetcher, SessionTools
from .combined import CombinedToolbox
from .empty import EmptyToolbox
from .knowledge import WorkspaceKnowledge
from .policy import PolicyToolbox
from .schemas import SchemaValidator, schema_check

__all__ = [
    "BuiltinTools",
    "CombinedToolbox",
    "EmptyToolbox",
    "Fetcher",
    "PolicyToolbox",
    "SchemaValidator",
    "SessionTools",
    "WorkspaceKnowledge",
    "schema_check",
]
