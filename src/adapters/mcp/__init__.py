"""Tools of servers that speak the Model Context Protocol."""

from .errors import ServerUnavailable
from .toolbox import McpToolbox, ServerHealth

__all__ = ["McpToolbox", "ServerHealth", "ServerUnavailable"]
