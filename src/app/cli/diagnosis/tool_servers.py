"""Starts MCP servers without a Gateway, to see whether they work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import Finding

if TYPE_CHECKING:
    from ....adapters.mcp import McpToolbox, ServerHealth
    from ....domain.ports import Sandbox
    from ....domain.settings import McpServerSettings, Settings
    from ....domain.tools import ToolSpec


@dataclass(frozen=True, slots=True)
class Probe:
    """A server that was started. `problem`: why it has no list of tools."""

    server: ServerHealth
    tools: tuple[ToolSpec, ...] = ()
    problem: str = ""


async def probed(
    settings: Settings, servers: Sequence[McpServerSettings], sandbox: Sandbox
) -> list[Probe]:
    """Start the servers at the same time, list their tools, and stop them."""
    from ....adapters.mcp import McpToolbox

    only = replace(settings, mcp_servers=tuple(servers))
    box = McpToolbox(lambda: only, os.environ, sandbox)
    try:
        return await asyncio.gather(*(_probe(box, server.name) for server in servers))
    finally:
        await box.close()


async def unavailable(settings: Settings, sandbox: Sandbox) -> list[Finding]:
    """The enabled servers that do not start, list no tools, or have tools that cannot be used."""
    enabled = [server for server in settings.mcp_servers if server.enabled]
    probes = await probed(settings, enabled, sandbox)
    left_out = [
        Finding(
            "mcp_tool_left_out",
            f"No model is offered the tool {name!r} of the MCP server {probe.server.name}: {why}.",
            f"Correct the server, or name the tool in mcp.servers.{probe.server.name}.tools.deny.",
        )
        for probe in probes
        for name, why in probe.server.left_out.items()
    ]
    return left_out + [
        Finding(
            "mcp_server_unavailable",
            f"The MCP server {probe.server.name} is not available: {probe.problem}.",
            f"Check mcp.servers.{probe.server.name}; `opensoul mcp probe {probe.server.name}` "
            "tries again.",
        )
        for probe in probes
        if probe.problem
    ]


async def _probe(box: McpToolbox, name: str) -> Probe:
    from ....adapters.mcp import ServerUnavailable

    def health() -> ServerHealth:
        return next(server for server in box.health() if server.name == name)

    try:
        tools = await box.probe(name)
    except ServerUnavailable as error:
        return Probe(health(), problem=str(error))
    return Probe(health(), tools)
