"""What the code of an agent does to the event loop that it shares with other runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.serving import serving
from tests.python_agents.conftest import Write, configured

ENDS_LOOP = """
    import asyncio, sys
    async def leave():
        sys.exit(3)
    async def agent(run):
        if run.text == "task":
            task = asyncio.create_task(leave())
            await asyncio.wait({task})
            task.exception()  # Nobody else retrieves it.
        elif run.text == "callback":
            asyncio.get_running_loop().call_soon(sys.exit, 3)
        elif run.text == "stop":
            asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        yield run.text
"""
CLOSES_LOOP = """
    import asyncio
    async def fetched():
        return "fetched"
    loop = asyncio.get_event_loop()
    if not loop.is_running():
        tools = loop.run_until_complete(fetched())
        loop.close()
    async def agent(run):
        yield tools
"""


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("how", ["task", "callback", "stop"])
async def test_later_runs_have_a_loop_when_a_task_of_an_agent_exits(
    how: str, isolation: str, write: Write, tmp_path: Path
) -> None:
    content = configured({"target": f"{write(ENDS_LOOP)}:agent", "isolation": isolation})

    async with serving(tmp_path, content) as served:
        for text in (how, "later"):
            question = [{"role": "user", "content": text}]
            assert await served.text(messages=question) == text


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_module_may_close_the_loop_that_it_is_imported_on(
    isolation: str, write: Write, tmp_path: Path
) -> None:
    content = configured({"target": f"{write(CLOSES_LOOP)}:agent", "isolation": isolation})

    async with serving(tmp_path, content) as served:
        assert await served.text() == "fetched"
