"""Tools that a model may call."""

from .empty import EmptyToolbox

__all__ = ["EmptyToolbox"]
