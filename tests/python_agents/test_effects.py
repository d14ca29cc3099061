"""A tool of an agent runs once the Gateway has stored that its call has begun."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.app.serving import SECRET, serving
from tests.control.client import connected
from tests.e2e.process import GatewayProcess
from tests.python_agents.agents import NOTE
from tests.python_agents.conftest import Write, configured

ISOLATIONS = ["thread", "process", "inline"]
ASYNC_GENERATOR = """
    from opensoul.api import TextDelta, ToolFinished, ToolStarted
    async def agent(run):
        yield "I look. "
        for number in range(3):
            yield ToolStarted(f"c{number}", "weather", "{}")
            note("weather")
            yield [ToolFinished(f"c{number}", False, "sun"), TextDelta("Sun. ")]
"""
GENERATOR = """
    from opensoul.api import TextDelta, ToolFinished, ToolStarted
    def agent(run):
        for number in range(3):
            yield [TextDelta("I look. "), ToolStarted(f"c{number}", "weather", "{}")]
            note("weather")
            yield ToolFinished(f"c{number}", False, "sun")
"""


def placed(text: str, home: Path) -> str:
    """The module with the files of a Gateway in that directory."""
    store = home / "state" / "opensoul.sqlite3"
    return text.replace("RAN", str(home / "ran")).replace("STORE", str(store))


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("text", [ASYNC_GENERATOR, GENERATOR], ids=["async", "sync"])
async def test_a_function_goes_on_behind_a_tool_call_that_is_stored(
    text: str, isolation: str, write: Write, tmp_path: Path
) -> None:
    name = write(placed(NOTE + text, tmp_path))
    content = configured({"target": f"{name}:agent", "isolation": isolation})

    async with serving(tmp_path, content) as served:
        await served.text()

    assert (tmp_path / "ran").read_text().splitlines() == ["weather stored"] * 3


KILLS = """
    import os
    import signal
    from opensoul.api import ToolFinished, ToolStarted
    async def agent(run):
        yield ToolStarted("c", "pay", "{}")
        with open("RAN", "a") as file:
            file.write("paid\\n")
            file.flush()
            os.kill(int(open("PID").read()), signal.SIGKILL)
        yield ToolFinished("c", False, "paid")
"""


@pytest.mark.e2e
@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_call_is_not_repeated_whose_gateway_dies_with_its_effect(
    isolation: str, write: Write, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    name = write(KILLS.replace("PID", str(pid)).replace("RAN", str(tmp_path / "ran")))
    content = configured({"target": f"{name}:agent", "path": str(tmp_path), "isolation": isolation})
    gateway = GatewayProcess(tmp_path, json.dumps(content))

    gateway.start()
    pid.write_text(str(gateway.pid))
    async with aiohttp.ClientSession(gateway.url) as client, connected(client, SECRET) as peer:
        asked = {"message": "pay", "sessionKey": "agent:main:main", "idempotencyKey": "once"}
        await peer.answer(peer.send("agent", asked))
        assert await asyncio.to_thread(gateway.wait) == -signal.SIGKILL
    async with (
        gateway,
        aiohttp.ClientSession(gateway.url) as client,
        connected(client, SECRET) as peer,
    ):
        record = await peer.call("agent.wait", {"runId": "once"})

    assert (tmp_path / "ran").read_text() == "paid\n"
    assert record["status"] == "error"
