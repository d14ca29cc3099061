"""Tools that a model may call."""

from .combined import CombinedToolbox
from .empty import EmptyToolbox
from .policy import PolicyToolbox
from .schemas import SchemaValidator

__all__ = ["CombinedToolbox", "EmptyToolbox", "PolicyToolbox", "SchemaValidator"]
