"""A Toolbox of the servers that the configuration names."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from ...domain.messages import ToolCall
from ...domain.ports import Clock, CurrentSettings, ToolContext
from ...domain.settings import McpServerSettings
from ...domain.tools import ToolOutput, ToolResult, ToolSpec
from .errors import ServerUnavailable
from .server import McpServer
from .tools import RemoteTool, public_name, specs

_PATIENCE = 5.0
"""Seconds that a run waits for the list of a server that has just been started."""


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """How a server is. `state`: `disabled`, `idle` (the next use starts it), `starting`, `running`
    or `failed`. `tools`: what models call its tools; None before the first list."""

    name: str
    state: str
    about: str = ""
    tools: tuple[str, ...] | None = None
    problem: str = ""

    def described(self) -> dict[str, object]:
        """The health as JSON data, without what is empty."""
        tools = None if self.tools is None else list(self.tools)
        facts = {"about": self.about, "tools": tools, "problem": self.problem}
        known = {key: value for key, value in facts.items() if value not in ("", None)}
        return {"name": self.name, "state": self.state, **known}


class McpToolbox:
    """The tools of all servers, each named `SERVER__TOOL`.

    A server is started at the first use, and ended when its settings change. A slow server affects
    no other one: its tools are missing, or as they were, until it has listed them. `wanted` says
    for the prefix of a server's tools whether the caller may use any of them; other servers are
    not started for it.
    """

    def __init__(
        self,
        settings: CurrentSettings,
        environ: Mapping[str, str],
        *,
        wanted: Callable[[ToolContext, str], bool] = lambda context, prefix: True,
        monotonic: Clock = time.monotonic,
        patience: float = _PATIENCE,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._wanted = wanted
        self._monotonic = monotonic
        self._patience = patience
        self._servers: dict[str, McpServer] = {}
        self._seen: tuple[McpServerSettings, ...] = ()
        self._closing: set[asyncio.Task[None]] = set()

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        servers = [
            server
            for name, server in self._current().items()
            if self._wanted(context, public_name(name, ""))
        ]
        lists = await asyncio.gather(*(server.tools(patience=self._patience) for server in servers))
        offered: dict[str, ToolSpec] = {}
        for server, tools in zip(servers, lists, strict=True):
            for name, (spec, _) in specs(server.settings, tools).items():
                offered.setdefault(name, spec)
        return tuple(offered.values())

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        found = await self._find(context, call.name)
        if found is None:
            yield ToolResult(f"There is no tool {call.name!r}.", is_error=True)
            return
        server, tool = found
        try:
            arguments = json.loads(call.arguments or "{}")
        except ValueError as error:
            yield ToolResult(f"The arguments are not valid JSON: {error}.", is_error=True)
            return
        if not isinstance(arguments, dict):
            yield ToolResult("The arguments have to be a JSON object.", is_error=True)
            return
        async with aclosing(server.call(tool.name, arguments)) as outputs:
            async for output in outputs:
                yield output

    async def probe(self, name: str) -> tuple[ToolSpec, ...]:
        """Start the server, and list its tools. Raises ServerUnavailable."""
        server = self._current().get(name)
        if server is None:
            raise ServerUnavailable("it is not in the configuration, or disabled")
        return tuple(spec for spec, _ in specs(server.settings, await server.listed()).values())

    def health(self) -> tuple[ServerHealth, ...]:
        """How each server is now. Nothing is started."""
        servers = self._current()
        return tuple(
            _health(servers[one.name]) if one.enabled else ServerHealth(one.name, "disabled")
            for one in self._settings().mcp_servers
        )

    async def close(self) -> None:
        servers, self._servers, self._seen = self._servers, {}, ()
        await asyncio.gather(*(server.close() for server in servers.values()), *self._closing)

    async def _find(self, context: ToolContext, name: str) -> tuple[McpServer, RemoteTool] | None:
        for server_name, server in self._current().items():
            prefix = public_name(server_name, "")
            if not self._wanted(context, prefix):
                continue
            tools = server.known
            if tools is None and name.startswith(prefix):
                tools = await server.tools(patience=server.settings.connection_timeout)
            found = specs(server.settings, tools or ()).get(name)
            if found is not None:
                return server, found[1]
        return None

    def _current(self) -> dict[str, McpServer]:
        """The enabled servers. Those with changed settings are replaced, and ended."""
        configured = self._settings().mcp_servers
        if configured is self._seen:
            return self._servers
        self._seen, before = configured, self._servers
        self._servers = {}
        for settings in configured:
            if not settings.enabled:
                continue
            old = before.get(settings.name)
            if old is not None and old.settings == settings:
                self._servers[settings.name] = before.pop(settings.name)
                continue
            server = McpServer(settings, self._environ, monotonic=self._monotonic)
            self._servers[settings.name] = server
        for server in before.values():
            task = asyncio.create_task(server.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return self._servers


def _health(server: McpServer) -> ServerHealth:
    state, about, problem = server.health()
    known = server.known
    tools = None if known is None else tuple(specs(server.settings, known))
    return ServerHealth(server.settings.name, state.value, about, tools, problem)
