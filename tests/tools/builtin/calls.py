"""Calls of the built-in tools, made as a run makes them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from opensoul.adapters.sandbox import Bubblewrap
from opensoul.adapters.system.files import WorkspaceFiles
from opensoul.adapters.tools import BuiltinTools
from opensoul.adapters.tools.builtin.web_fetch import Fetcher
from opensoul.adapters.web import GuardedClient
from opensoul.domain.agents import Agent
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import Sandbox, Toolbox, ToolContext
from opensoul.domain.tools import ToolOutput, ToolResult
from tests.fakes.domain import agent, run

NOON = datetime(2026, 3, 4, 12).astimezone().timestamp()
"""The time of all calls: noon of a day, where the tests run."""


@dataclass(slots=True)
class Caller:
    """An agent with a workspace, and the tools that it calls."""

    workspace: Path
    toolbox: Toolbox
    agent: Agent = field(default_factory=lambda: agent("main"))

    @property
    def context(self) -> ToolContext:
        spec = run()
        acting = replace(self.agent, workspace=str(self.workspace))
        return ToolContext(acting, spec.id, spec.session_key, spec.principal_id)

    async def outputs(self, tool: str, **arguments: object) -> list[ToolOutput | ToolResult]:
        call = ToolCall("c1", tool, json.dumps(arguments))
        stream = self.toolbox.run(self.context, call, key="run:1:c1")
        async with aclosing(stream) as outputs:
            return [output async for output in outputs]

    async def result(self, tool: str, **arguments: object) -> ToolResult:
        """The last output, which is always a result."""
        result = (await self.outputs(tool, **arguments))[-1]
        assert isinstance(result, ToolResult)
        return result

    async def text(self, tool: str, **arguments: object) -> str:
        result = await self.result(tool, **arguments)
        assert not result.is_error, result.text
        return result.text

    async def error(self, tool: str, **arguments: object) -> str:
        result = await self.result(tool, **arguments)
        assert result.is_error, result.text
        return result.text


def caller(
    tmp_path: Path,
    env: Mapping[str, str] | None = None,
    fetcher: Fetcher | None = None,
    sandbox: Sandbox | None = None,
    skills: str = "",
) -> Caller:
    given = os.environ if env is None else env
    toolbox = BuiltinTools(
        WorkspaceFiles(tmp_path),
        sandbox or Bubblewrap(given),
        env=given,
        memory_dir=tmp_path / "memory-index",
        clock=lambda: NOON,
        skills=skills,
        fetcher=fetcher or Fetcher(GuardedClient()),
    )
    return Caller(tmp_path / "workspace", toolbox)
