"""Servers that others publish, in the releases that `make test-mcp` installs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from opensoul.adapters.mcp import McpToolbox
from opensoul.domain.settings import McpServerSettings
from opensoul.domain.tools import Effect, ToolOutput, ToolResult
from tests.mcp.servers import CONTEXT, PROJECT, call, free_port, tool_call, toolbox, until
from tests.mcp.servers import outputs as outputs_of

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

INSTALLED = PROJECT / ".opensoul" / "mcp-servers"
EVERYTHING = INSTALLED / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
TRANSPORTS = {"stdio": "", "streamableHttp": "mcp", "sse": "sse"}
"""The argument of `server-everything` for each transport, and the path of its URL."""


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder of their programs."""
    if not (INSTALLED / ".done").exists():
        pytest.skip("`make test-mcp` installs the servers")
    return INSTALLED / "bin"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    git = await asyncio.create_subprocess_exec("git", "init", "--quiet", str(folder))
    assert await git.wait() == 0
    (folder / "new.txt").write_text("new")
    return folder


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def box(programs: Path, repository: Path) -> AsyncIterator[McpToolbox]:
    made = toolbox(
        McpServerSettings(
            "time", command=str(programs / "mcp-server-time"), args=("--local-timezone", "UTC")
        ),
        McpServerSettings(
            "git",
            command=str(programs / "mcp-server-git"),
            args=("--repository", str(repository)),
            cwd=str(repository),
        ),
        patience=60.0,
    )
    yield made
    await made.close()


async def test_all_servers_offer_their_tools(box: McpToolbox) -> None:
    tools = {spec.name: spec for spec in await box.tools(CONTEXT)}
    assert {"time__get_current_time", "time__convert_time", "git__git_status"} <= set(tools)
    assert tools["time__convert_time"].effects == {Effect.READ}


async def test_times_are_converted(box: McpToolbox) -> None:
    times = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    result = await call(box, "convert_time", times, server="time")
    assert not result.is_error
    content = json.loads(result.text.split("\n", 2)[2].rpartition("\n")[0])
    assert content["time_difference"] == "+9.0h"


async def test_a_wrong_zone_is_an_error_for_the_model(box: McpToolbox) -> None:
    result = await call(box, "get_current_time", {"timezone": "Nowhere"}, server="time")
    assert result.is_error
    assert "Nowhere" in result.text


async def test_a_repository_is_read(box: McpToolbox, repository: Path) -> None:
    result = await call(box, "git_status", {"repo_path": str(repository)}, server="git")
    assert not result.is_error
    assert "new.txt" in result.text


@pytest.mark.parametrize("server", ["time", "git"])
async def test_a_server_that_is_killed_in_a_call_is_started_again_by_the_next(
    box: McpToolbox, repository: Path, server: str
) -> None:
    """No tool of these servers takes long, so the server is frozen before the call."""
    tool, arguments = {
        "time": ("get_current_time", {"timezone": "UTC"}),
        "git": ("git_status", {"repo_path": str(repository)}),
    }[server]
    assert not (await call(box, tool, arguments, server=server)).is_error
    (process,) = children(f"mcp-server-{server}")
    os.kill(process, signal.SIGSTOP)
    calling = asyncio.create_task(call(box, tool, arguments, server=server))
    done, _ = await asyncio.wait({calling}, timeout=1)
    assert not done
    os.kill(process, signal.SIGKILL)

    result = await calling
    assert result.is_error
    assert "not known whether the call had an effect" in result.text

    assert not (await call(box, tool, arguments, server=server)).is_error
    (successor,) = children(f"mcp-server-{server}")
    assert successor != process


def children(name: str) -> list[int]:
    """The processes that run the program of that name for this process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == os.getpid() and name.encode() in command:
            found.append(int(path.name))
    return found


@dataclass
class Everything:
    """The reference server with all features of the protocol, over one transport. One that is
    reached over HTTP is started here; one over stdio is started by the toolbox."""

    transport: str
    port: int = field(default_factory=free_port)
    _process: asyncio.subprocess.Process | None = None

    @property
    def settings(self) -> McpServerSettings:
        if self.transport == "stdio":
            node = shutil.which("node") or "node"
            return McpServerSettings("every", command=node, args=(str(EVERYTHING), "stdio"))
        url = f"http://127.0.0.1:{self.port}/{TRANSPORTS[self.transport]}"
        return McpServerSettings("every", url=url, sse=self.transport == "sse")

    async def start(self) -> None:
        if self.transport == "stdio":
            return
        self._process = await asyncio.create_subprocess_exec(
            *("node", "--require", str(PROJECT / "tests/mcp/loopback.cjs")),
            *(str(EVERYTHING), self.transport),
            env={**os.environ, "PORT": str(self.port)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        async with asyncio.timeout(60):
            while str(self.port) not in (await self._process.stderr.readline()).decode():
                assert self._process.returncode is None

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None
            return
        (process,) = children("server-everything")
        os.kill(process, signal.SIGKILL)

    async def stop(self) -> None:
        if self._process is not None:
            await self.kill()


@asynccontextmanager
async def everything(transport: str) -> AsyncIterator[tuple[Everything, McpToolbox]]:
    server = Everything(transport)
    await server.start()
    made = toolbox(server.settings, patience=60.0)
    try:
        yield server, made
    finally:
        await made.close()
        await server.stop()


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, programs: Path) -> str:
    if not EVERYTHING.exists():
        pytest.skip("there was no npm when the servers were installed")
    name: str = request.param
    return name


async def test_a_server_for_node_is_used_over_each_transport(transport: str) -> None:
    async with everything(transport) as (_, made):
        tools = {spec.name for spec in await made.tools(CONTEXT)}
        assert {"every__echo", "every__get-sum", "every__get-structured-content"} <= tools
        echoed = await call(made, "echo", {"message": "</untrusted> hello"}, server="every")
        assert not echoed.is_error
        assert "Echo: &lt;/untrusted> hello" in echoed.text
        added = await call(made, "get-sum", {"a": 2, "b": 3}, server="every")
        assert "The sum of 2 and 3 is 5." in added.text
        picture = await call(made, "get-tiny-image", server="every")
        assert "[an image, image/png," in picture.text
        refused = await call(made, "get-sum", {"a": "many"}, server="every")
        assert refused.is_error


async def test_progress_of_a_server_for_node_is_passed_on(transport: str) -> None:
    slow = tool_call(
        "trigger-long-running-operation", '{"duration": 0.2, "steps": 2}', server="every"
    )
    async with everything(transport) as (_, made):
        outputs = await outputs_of(made, slow)
    assert outputs[:-1] == [ToolOutput("1 of 2"), ToolOutput("2 of 2")]
    assert isinstance(outputs[-1], ToolResult)
    assert "Long running operation completed" in outputs[-1].text


async def test_a_server_for_node_that_is_killed_in_a_call_is_reached_again(transport: str) -> None:
    slow = tool_call(
        "trigger-long-running-operation", '{"duration": 600, "steps": 6000}', server="every"
    )
    async with everything(transport) as (server, made):
        async with aclosing(made.run(CONTEXT, slow, key="k")) as stream:
            assert await anext(stream) == ToolOutput("1 of 6000")
            await server.kill()
            *_, result = [output async for output in stream]
        assert isinstance(result, ToolResult)
        assert result.is_error
        assert "not known whether the call had an effect" in result.text
        await server.start()

        async def answers() -> bool:
            echoed = await call(made, "echo", {"message": "back"}, server="every")
            return not echoed.is_error and "Echo: back" in echoed.text

        await until(answers)
