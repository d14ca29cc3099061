"""What a step with a tool costs, by a measure that is the same on every machine."""

from __future__ import annotations

from pathlib import Path

from bench.hotpath import answer, gateway
from bench.tool_step import OneTool, calls_of_a_step
from opensoul.domain.settings import StoreSettings

MOST_CALLS = 2_300
"""Half as many again as were counted when a step took less than 1 ms of processor time."""


async def test_the_measured_run_calls_its_tool() -> None:
    tools = OneTool()
    async with gateway(StoreSettings(memory=True), tools) as served:
        await answer(served)
    assert tools.called == 1


async def test_a_step_with_a_tool_is_cheap(tmp_path: Path) -> None:
    assert 0 < await calls_of_a_step(tmp_path / "step.db") < MOST_CALLS
