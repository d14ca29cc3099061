"""A Toolbox of the servers that the configuration names."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from ...domain.agents import Agent
from ...domain.messages import ToolCall
from ...domain.ports import Clock, CurrentSettings, Sandbox, ToolContext
from ...domain.settings import McpServerSettings, Settings
from ...domain.tools import MCP_SOURCE, ToolOutput, ToolResult, ToolSpec
from .confinement import Confinement, Confiner
from .errors import ServerUnavailable
from .server import McpServer, State
from .tools import RemoteTool, faults, public_name, specs

_PATIENCE = 5.0
"""Seconds that a run waits for the list of a server that has just been started."""
_STATES = (State.IDLE, State.STARTING, State.RUNNING, State.FAILED)

_Key = tuple[McpServerSettings, Confinement | None]


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """How a server is. `state`: `disabled`, `idle` (the next use starts it), `starting`, `running`
    or `failed`. `tools`: what models call its tools; None before the first list. `left_out`: why
    models are not offered the others, by the server's names of them."""

    name: str
    state: str
    about: str = ""
    tools: tuple[str, ...] | None = None
    problem: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, object]:
        """The health as JSON data, without what is empty."""
        tools = None if self.tools is None else list(self.tools)
        facts: dict[str, object] = {"about": self.about, "tools": tools, "problem": self.problem}
        facts["leftOut"] = dict(self.left_out) or None
        known = {key: value for key, value in facts.items() if value not in ("", None)}
        return {"name": self.name, "state": self.state, **known}


class McpToolbox:
    """The tools of all servers, each named `SERVER__TOOL`.

    A server is started at the first use, and ended when its settings change. A program has one
    process for the agents without a sandbox, and one for each sandbox and workspace, so that what
    one agent may reach is not within the reach of another. A slow server affects
    no other one: its tools are missing, or as they were, until it has listed them. `wanted` says
    for the prefix of a server's tools whether the caller may use any of them; other servers are
    not started for it.
    """

    def __init__(
        self,
        settings: CurrentSettings,
        environ: Mapping[str, str],
        sandbox: Sandbox,
        *,
        wanted: Callable[[ToolContext, str], bool] = lambda context, prefix: True,
        monotonic: Clock = time.monotonic,
        patience: float = _PATIENCE,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._sandbox = sandbox
        self._wanted = wanted
        self._monotonic = monotonic
        self._patience = patience
        self._servers: dict[_Key, McpServer] = {}
        self._seen: Settings | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        servers = [
            self._server(settings, context.agent)
            for settings in self._current()
            if self._wanted(context, public_name(settings.name, ""))
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
        """Start the server as for the first agent that may use it, or for the default agent, and
        list its tools. Raises ServerUnavailable."""
        found = [settings for settings in self._current() if settings.name == name]
        if not found:
            raise ServerUnavailable("it is not in the configuration, or disabled")
        directory = self._settings().agents
        users = (
            agent
            for agent in (directory.default, *directory)
            if agent.tools.may_name(public_name(name, ""), MCP_SOURCE)
        )
        server = self._server(found[0], next(users, directory.default))
        return tuple(spec for spec, _ in specs(server.settings, await server.listed()).values())

    def health(self) -> tuple[ServerHealth, ...]:
        """How each server is now: of several processes, one that failed, or else one that runs.
        Nothing is started."""
        self._current()
        return tuple(self._health(one) for one in self._settings().mcp_servers)

    async def close(self) -> None:
        servers, self._servers, self._seen = self._servers, {}, None
        await asyncio.gather(*(server.close() for server in servers.values()), *self._closing)

    async def _find(self, context: ToolContext, name: str) -> tuple[McpServer, RemoteTool] | None:
        for settings in self._current():
            prefix = public_name(settings.name, "")
            if not self._wanted(context, prefix):
                continue
            server = self._server(settings, context.agent)
            tools = server.known
            if tools is None and name.startswith(prefix):
                tools = await server.tools(patience=server.settings.connection_timeout)
            found = specs(server.settings, tools or ()).get(name)
            if found is not None:
                return server, found[1]
        return None

    def _current(self) -> list[McpServerSettings]:
        """The settings of the enabled servers. Processes are ended that belong to changed settings,
        or to a sandbox that no agent has any more."""
        current = self._settings()
        enabled = [settings for settings in current.mcp_servers if settings.enabled]
        if current is not self._seen:
            self._seen = current
            kept = {
                (settings, Confinement.of(settings, agent))
                for settings in enabled
                for agent in current.agents
            }
            for key in [key for key in self._servers if key not in kept]:
                task = asyncio.create_task(self._servers.pop(key).close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        return enabled

    def _server(self, settings: McpServerSettings, agent: Agent) -> McpServer:
        """The server for the calls of that agent."""
        confinement = Confinement.of(settings, agent)
        key = (settings, confinement)
        server = self._servers.get(key)
        if server is None:
            confiner = None if confinement is None else Confiner(self._sandbox, confinement)
            server = self._servers[key] = McpServer(
                settings, self._environ, confiner=confiner, monotonic=self._monotonic
            )
        return server

    def _health(self, settings: McpServerSettings) -> ServerHealth:
        if not settings.enabled:
            return ServerHealth(settings.name, "disabled")
        found = [_health(server) for (one, _), server in self._servers.items() if one == settings]
        idle = ServerHealth(settings.name, State.IDLE)
        return max(found, key=lambda one: _STATES.index(one.state), default=idle)


def _health(server: McpServer) -> ServerHealth:
    state, about, problem = server.health()
    known = server.known
    tools = None if known is None else tuple(specs(server.settings, known))
    left_out = faults(server.settings, known or ())
    return ServerHealth(server.settings.name, state.value, about, tools, problem, left_out)
