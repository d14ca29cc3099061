"""Starting the server of `tests.fakes.mcp_server`, and calling its tools."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any

from opensoul.adapters.mcp import McpToolbox
from opensoul.adapters.sandbox import Bubblewrap
from opensoul.domain.agents import AgentDirectory
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import ToolContext
from opensoul.domain.settings import AuthMode, AuthSettings, McpServerSettings, Settings
from opensoul.domain.tools import ToolOutput, ToolResult
from tests.fakes.domain import agent, run

_RUN = run()
CONTEXT = ToolContext(agent("main"), _RUN.id, _RUN.session_key, _RUN.principal_id)
PROJECT = Path(__file__).parents[2]


def stdio(folder: Path, *options: str, name: str = "fake") -> McpServerSettings:
    """The server as a child process."""
    return McpServerSettings(
        name,
        command=sys.executable,
        args=("-m", "tests.fakes.mcp_server", str(folder), *options),
        cwd=str(PROJECT),
    )


@asynccontextmanager
async def http_server(
    folder: Path, *, sse: bool = False, port: int = 0
) -> AsyncIterator[McpServerSettings]:
    """The server on a port of this machine, in a process of its own."""
    port = port or free_port()
    options = ("--port", str(port), *(["--sse"] if sse else []))
    command = (sys.executable, "-m", "tests.fakes.mcp_server", str(folder), *options)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROJECT, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                assert process.returncode is None
                await asyncio.sleep(0.02)
        writer.close()
        path = "sse" if sse else "mcp"
        yield McpServerSettings("fake", url=f"http://127.0.0.1:{port}/{path}", sse=sse)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class CurrentServers:
    """Settings with servers that a test can change."""

    def __init__(self, *servers: McpServerSettings) -> None:
        self.use(*servers)

    def use(self, *servers: McpServerSettings) -> None:
        self._settings = Settings(
            AgentDirectory([agent("main")], "main"),
            AuthSettings(AuthMode.NONE),
            mcp_servers=servers,
        )

    def __call__(self) -> Settings:
        return self._settings


def toolbox(*servers: McpServerSettings, **options: Any) -> McpToolbox:
    return McpToolbox(CurrentServers(*servers), os.environ, Bubblewrap(os.environ), **options)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what no event announces."""
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


def tool_call(tool: str, arguments: str = "{}", *, server: str = "fake") -> ToolCall:
    return ToolCall("1", f"{server}__{tool}", arguments)


async def outputs(
    box: McpToolbox, call: ToolCall, *, by: ToolContext = CONTEXT
) -> list[ToolOutput | ToolResult]:
    async with aclosing(box.run(by, call, key="k")) as stream:
        return [output async for output in stream]


async def call(
    box: McpToolbox,
    tool: str,
    arguments: dict[str, Any] | None = None,
    *,
    server: str = "fake",
    by: ToolContext = CONTEXT,
) -> ToolResult:
    made = tool_call(tool, json.dumps(arguments or {}), server=server)
    result = (await outputs(box, made, by=by))[-1]
    assert isinstance(result, ToolResult)
    return result
