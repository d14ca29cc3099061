"""Servers that others publish. They are installed into an environment of their own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from opensoul.adapters.mcp import McpToolbox
from opensoul.domain.settings import McpServerSettings
from opensoul.domain.tools import Effect
from tests.mcp.servers import CONTEXT, call, toolbox

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

_PACKAGES = ("mcp-server-time", "mcp-server-git")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of their programs."""
    place = tmp_path_factory.mktemp("servers")
    await _run(sys.executable, "-m", "venv", str(place))
    pip = (str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *_PACKAGES)
    if await _run(*pip):
        pytest.skip("The servers cannot be installed here.")
    return place / "bin"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def box(programs: Path, repository: Path) -> AsyncIterator[McpToolbox]:
    assert await _run("git", "init", "--quiet", str(repository)) == 0
    (repository / "new.txt").write_text("new")
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


async def _run(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait()


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
