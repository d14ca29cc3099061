"""`/mcp`: the agents as tools of an MCP server, over streamable HTTP."""

from .transport import transport

__all__ = ["transport"]
