"""Tools that a model may call."""

from .combined import CombinedToolbox
from .empty import EmptyToolbox
from .policy import PolicyToolbox

__all__ = ["CombinedToolbox", "EmptyToolbox", "PolicyToolbox"]
