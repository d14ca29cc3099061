"""The built-in tools as a Toolbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from ....domain.messages import ToolCall
from ....domain.ports import Clock, Sandbox, ToolContext, Workspaces
from ....domain.ports.sandbox import SandboxUnavailable
from ....domain.ports.workspaces import WorkspaceFailed
from ....domain.tools import ToolOutput, ToolResult, ToolSpec
from .exec import EXEC, confined_spec, exec_tool
from .files import file_tools
from .memory import Memory, memory_tools
from .memory_index import MemoryIndex
from .search import search_tool
from .tool import Tool, ToolFailed
from .web_fetch import Fetcher, web_fetch_tool


class BuiltinTools:
    """`read`, `write`, `edit`, `list`, `search`, `exec`, `web_fetch`, `memory_search` and
    `memory_write`.

    The workspace of an agent is made with the first call that needs it. `env`: the environment of
    the Gateway, of which commands get the variables that are on a list. `memory_dir`: where the
    indexes of memory files are kept. `skills`: a folder outside of all workspaces that `read` may
    read; empty: none.
    """

    def __init__(
        self,
        workspaces: Workspaces,
        sandbox: Sandbox,
        *,
        env: Mapping[str, str],
        memory_dir: Path,
        clock: Clock,
        fetcher: Fetcher,
        skills: str = "",
    ) -> None:
        lock = Lock()
        tools: list[Tool[Any]] = [
            *file_tools(lock, skills),
            search_tool(),
            exec_tool(env, sandbox),
            web_fetch_tool(fetcher),
            *memory_tools(Memory(MemoryIndex(memory_dir), lock, clock)),
        ]
        self._tools = {tool.name: tool for tool in tools}
        self._specs = tuple(tool.spec() for tool in tools)
        self._workspaces = workspaces

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        policy = context.agent.sandbox
        if not policy.confines:
            return self._specs
        return tuple(
            confined_spec(spec, policy) if spec.name == EXEC else spec for spec in self._specs
        )

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        tool = self._tools.get(call.name)
        if tool is None:
            yield ToolResult(f"There is no tool {call.name!r}.", is_error=True)
            return
        try:
            if tool.in_workspace:
                await asyncio.to_thread(self._workspaces.ensure, context.agent.workspace)
            async with aclosing(tool.call(call.arguments, context.agent)) as outputs:
                async for output in outputs:
                    yield replace(output, text=_encodable(output.text))
        except (ToolFailed, WorkspaceFailed, SandboxUnavailable) as error:
            yield ToolResult(_encodable(str(error)), is_error=True)

    async def close(self) -> None:
        """There is nothing to release: what a call needs ends with its stream."""


def _encodable(text: str) -> str:
    """Without lone surrogates, which names of files may contain."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
