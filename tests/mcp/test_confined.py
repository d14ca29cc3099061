"""MCP servers that are programs, in the sandbox of the agent that uses them."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.adapters.mcp import McpToolbox, ServerUnavailable
from opensoul.adapters.sandbox import Bubblewrap
from opensoul.domain.agents import Agent, AgentDirectory
from opensoul.domain.ports import ToolContext
from opensoul.domain.settings import AuthMode, AuthSettings, McpServerSettings, Settings
from opensoul.domain.tools import (
    Names,
    SandboxMode,
    SandboxPolicy,
    ServerSandbox,
    ToolPolicy,
    ToolResult,
    ToolRules,
)
from tests.fakes.domain import agent, run
from tests.mcp.servers import PROJECT, call, stdio, until
from tests.sandbox.available import CONFINED, needs_bubblewrap

PYTHON = (sys.prefix, sys.base_prefix)
"""What the server of these tests needs besides the system's programs."""


def server(folder: Path, **changes: object) -> McpServerSettings:
    """The server of the tests, which notes its starts in a folder that it may write."""
    notes = folder / "notes"
    notes.mkdir()
    sandbox = ServerSandbox(read=PYTHON, write=(str(notes),))
    return replace(stdio(notes), sandbox=replace(sandbox, **changes))  # type: ignore[arg-type]


def settings(servers: list[McpServerSettings], *agents: Agent) -> Settings:
    directory = AgentDirectory(agents, agents[0].id)
    return Settings(directory, AuthSettings(AuthMode.NONE), mcp_servers=tuple(servers))


def confined(name: str, folder: Path, policy: SandboxPolicy = CONFINED) -> Agent:
    workspace = folder / f"workspace-{name}"
    workspace.mkdir(exist_ok=True)
    return replace(agent(name), workspace=str(workspace), sandbox=policy)


def context(one: Agent) -> ToolContext:
    spec = run()
    return ToolContext(one, spec.id, spec.session_key, spec.principal_id)


@pytest.fixture
async def boxes() -> AsyncIterator[list[McpToolbox]]:
    found: list[McpToolbox] = []
    yield found
    for box in found:
        await box.close()


def opened(boxes: list[McpToolbox], current: Settings, **env: str) -> McpToolbox:
    environ = {"PATH": os.environ["PATH"], "HOME": "/home/somebody"} | env
    box = McpToolbox(lambda: current, environ, Bubblewrap(environ))
    boxes.append(box)
    return box


async def text(box: McpToolbox, one: Agent, tool: str, **arguments: str) -> str:
    result = await call(box, tool, arguments, by=context(one))
    assert not result.is_error, result.text
    return "\n".join(result.text.splitlines()[2:-1])  # Between the marks of untrusted text.


def starts(folder: Path) -> int:
    path = folder / "notes" / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def processes(folder: Path) -> int:
    """How many have that folder in an argument or a variable."""
    found = 0
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            known = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            found += str(folder).encode() in known
    return found


@needs_bubblewrap
async def test_a_server_reaches_what_its_agent_reaches(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    one = confined("one", tmp_path)
    (Path(one.workspace) / "inside").write_text("inside")
    (tmp_path / "outside").write_text("leaked")
    box = opened(boxes, settings([server(tmp_path)], one), OPENAI_API_KEY="leaked")

    assert await text(box, one, "look", path=f"{one.workspace}/inside") == "inside"
    assert await text(box, one, "look", path=f"{tmp_path}/outside") == "No such file or directory"
    assert await text(box, one, "look", path="/etc/shadow") == "No such file or directory"
    assert "\0leaked" not in await text(box, one, "look", path="/proc/1/environ")
    assert len((await text(box, one, "look", path="/proc/net/dev")).splitlines()) == 3  # lo alone
    assert await text(box, one, "where") == str(PROJECT)
    assert "leaked" not in await text(box, one, "environment")


@needs_bubblewrap
async def test_agents_with_different_sandboxes_do_not_share_a_process(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    free = replace(agent("free"), workspace=str(tmp_path))
    one, two = confined("one", tmp_path), confined("two", tmp_path)
    same = replace(one, id="same")
    box = opened(boxes, settings([server(tmp_path)], free, one, two, same))
    for each in (one, two):
        (Path(each.workspace) / "name").write_text(each.id)

    found = [
        await text(box, who, "look", path=f"{of.workspace}/name")
        for who in (free, one, two, same)
        for of in (one, two)
    ]

    missing = "No such file or directory"
    assert found == ["one", "two", "one", missing, missing, "two", "one", missing]
    assert starts(tmp_path) == 3


@needs_bubblewrap
@pytest.mark.parametrize("mode", [SandboxMode.OFF, SandboxMode.BUBBLEWRAP])
async def test_the_settings_of_a_server_decide_for_all_agents(
    tmp_path: Path, boxes: list[McpToolbox], mode: SandboxMode
) -> None:
    free = replace(agent("free"), workspace=str(tmp_path / "workspace"))
    one = free if mode is SandboxMode.BUBBLEWRAP else confined("one", tmp_path)
    (tmp_path / "workspace").mkdir()
    (tmp_path / "outside").write_text("seen")
    box = opened(boxes, settings([server(tmp_path, mode=mode)], one))

    seen = await text(box, one, "look", path=f"{tmp_path}/outside")

    assert (seen == "seen") == (mode is SandboxMode.OFF)


@needs_bubblewrap
async def test_a_server_and_all_it_has_started_end_with_the_toolbox(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    one = confined("one", tmp_path)
    box = opened(boxes, settings([server(tmp_path)], one), LANG=str(tmp_path))
    await text(box, one, "fork")
    assert processes(tmp_path) >= 4  # The launcher, bubblewrap, the server and its child.

    await box.close()

    await until(lambda: gone(tmp_path))


async def gone(folder: Path) -> bool:
    return processes(folder) == 0


@needs_bubblewrap
async def test_a_sandbox_that_no_agent_has_any_more_is_ended(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    one = confined("one", tmp_path)
    current = [settings([server(tmp_path)], one)]
    environ = {"PATH": os.environ["PATH"], "HOME": "/home/somebody", "LANG": str(tmp_path)}
    box = McpToolbox(lambda: current[0], environ, Bubblewrap(environ))
    boxes.append(box)
    await text(box, one, "where")
    kept = current[0].mcp_servers
    current[0] = replace(settings([], replace(one, name="renamed")), mcp_servers=kept)
    await text(box, one, "where")
    assert starts(tmp_path) == 1

    current[0] = replace(settings([], agent("other")), mcp_servers=kept)
    box.health()

    await until(lambda: gone(tmp_path))


REFUSALS: dict[str, tuple[SandboxPolicy, str]] = {
    "no bubblewrap": (CONFINED, "there is no program `bwrap`"),
    "a mode of another program": (
        SandboxPolicy(SandboxMode.ALL), 'the sandbox mode "all" does not exist here',
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_server_that_cannot_be_confined_is_not_started(
    tmp_path: Path, boxes: list[McpToolbox], kind: str
) -> None:
    policy, problem = REFUSALS[kind]
    one = confined("one", tmp_path, policy)
    box = opened(boxes, settings([server(tmp_path)], one), PATH=str(tmp_path))

    with pytest.raises(ServerUnavailable, match="nothing is run without it"):
        await box.probe("fake")

    (health,) = box.health()
    assert health.state == "failed"
    assert problem in health.problem
    result = await call(box, "add", {"a": 1, "b": 2}, by=context(one))
    assert result == ToolResult("There is no tool 'fake__add'.", True)
    assert starts(tmp_path) == 0


@needs_bubblewrap
@pytest.mark.parametrize(
    ("read", "problem"),
    [
        ((), "is not visible in it; name its directory in `sandbox.read`"),
        (("/no/such",), "/no/such does not exist"),
    ],
)
async def test_a_server_is_not_started_with_paths_that_are_missing(
    tmp_path: Path, boxes: list[McpToolbox], read: tuple[str, ...], problem: str
) -> None:
    one = confined("one", tmp_path)
    chosen = replace(server(tmp_path, read=read), cwd=None)
    box = opened(boxes, settings([chosen], one))

    with pytest.raises(ServerUnavailable, match=problem):
        await box.probe("fake")

    assert starts(tmp_path) == 0


async def test_a_probe_starts_a_server_as_the_first_agent_that_may_use_it(
    tmp_path: Path, boxes: list[McpToolbox]
) -> None:
    """An agent without a sandbox that may not use the server has it not started without one."""
    free = replace(agent("free"), workspace=str(tmp_path))
    rules = ToolPolicy(ToolRules(also_allow=Names(("fake__*",))))
    one = replace(confined("one", tmp_path), tools=rules)
    box = opened(boxes, settings([server(tmp_path)], free, one), PATH=str(tmp_path))

    with pytest.raises(ServerUnavailable, match="nothing is run without it"):
        await box.probe("fake")

    assert starts(tmp_path) == 0


def test_the_limit_of_processor_time_for_commands_is_not_for_servers() -> None:
    assert ServerSandbox().of_agent(CONFINED).limits.cpu_seconds is None
    chosen = ServerSandbox(limits=(("cpu_seconds", 9),)).of_agent(CONFINED)
    assert chosen.limits.cpu_seconds == 9
    assert chosen.limits.memory == CONFINED.limits.memory
