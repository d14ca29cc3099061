"""`mcp.servers`: the servers of tools."""

from __future__ import annotations

import re

from ....domain.models import Secret
from ....domain.settings import McpServerSettings
from ..read import Building
from ..schema.mcp import McpServer
from .sandbox import build_server_sandbox

_SERVERS = ("mcp", "servers")
_NAME = re.compile(r"[A-Za-z0-9](?:_?[A-Za-z0-9.-])*")
_LONGEST_NAME = 32


def build_mcp_servers(building: Building) -> tuple[McpServerSettings, ...]:
    servers = building.config.mcp.servers
    return tuple(
        _server(building, name, entry) for name, entry in servers.items() if _usable(building, name)
    )


def _usable(building: Building, name: str) -> bool:
    where = (*_SERVERS, name)
    if building.broken(*where):
        return False
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        message = (
            f"the name of a server has at most {_LONGEST_NAME} letters, digits, `-`, `.` and "
            "single `_`, and begins with a letter or a digit"
        )
        building.report(message, *where)
    entry = building.config.mcp.servers[name]
    if problem := _problem(entry):
        building.report(problem, *where)
    return not building.broken(*where)


def _problem(entry: McpServer) -> str:
    if (entry.command is None) == (entry.url is None):
        return "needs either `command` (a child process) or `url` (over HTTP)"
    if entry.transport is not None and (entry.transport == "stdio") != (entry.url is None):
        needed = "command" if entry.transport == "stdio" else "url"
        return f"needs `{needed}` for the transport `{entry.transport}`"
    return ""


def _server(building: Building, name: str, entry: McpServer) -> McpServerSettings:
    allow = entry.tools.allow
    return McpServerSettings(
        name=name,
        enabled=entry.enabled,
        command=entry.command or "",
        args=tuple(entry.args),
        env=tuple((key, Secret(_text(value))) for key, value in entry.env.items()),
        cwd=None if entry.cwd is None else building.path(entry.cwd),
        url=entry.url or "",
        sse=entry.transport == "sse",
        headers=tuple((key, Secret(value)) for key, value in entry.headers.items()),
        allow=("*",) if allow is None else tuple(allow),
        deny=tuple(entry.tools.deny),
        connection_timeout=entry.connection_timeout_ms / 1000,
        request_timeout=entry.request_timeout_ms / 1000,
        sandbox=build_server_sandbox(building, entry.sandbox),
    )


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
