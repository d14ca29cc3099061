"""Tools that a model may call."""

from .combined import CombinedToolbox
from .empty import EmptyToolbox

__all__ = ["CombinedToolbox", "EmptyToolbox"]
