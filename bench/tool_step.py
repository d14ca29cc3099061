"""What a step with one tool costs: the processor time that a run with one call of a tool in this
process takes beyond a run without a call.

    python -m bench.tool_step [--runs 300]

Both runs end with the same 50 chunks, so the figure has the whole step in it: the call of the model
that leads to the tool call, the policy, the three commits of the step to SQLite, with those of the
writing threads, the tool and the events. It may be 2 ms; the exit status is 1 above that.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import Toolbox, ToolContext
from opensoul.domain.settings import StoreSettings
from opensoul.domain.tools import ToolOutput, ToolResult, ToolSpec

from .guard import Calls
from .hotpath import answer, gateway

MOST_MS = 2.0
_WARM = 20


class OneTool:
    """A Toolbox with one tool that does next to nothing."""

    def __init__(self) -> None:
        self.called = 0
        name = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        self._specs = (ToolSpec("look_up", "Looks somebody up.", name),)

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return self._specs

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.called += 1
        yield ToolResult("extension 1815")

    async def close(self) -> None:
        """Does nothing."""


async def milliseconds_of_a_run(database: Path, runs: int, tools: Toolbox | None = None) -> float:
    """The processor time of this process for one run, with that of its threads."""
    async with gateway(StoreSettings(path=str(database)), tools) as served:
        for _ in range(_WARM):
            await answer(served)
        before = time.process_time()
        for _ in range(runs):
            await answer(served)
        return (time.process_time() - before) / runs * 1_000


async def calls_of_a_step(database: Path, runs: int = 20) -> float:
    """The function calls of a step, which are the same on every machine."""
    counts: list[float] = []
    for tools in (None, OneTool()):
        path = database.with_suffix(f".{len(counts)}.db")
        with Calls() as calls:
            async with gateway(StoreSettings(path=str(path)), tools) as served:
                await answer(served)
                before = calls.count
                for _ in range(runs):
                    await answer(served)
                counts.append((calls.count - before) / runs)
    without, with_tool = counts
    return with_tool - without


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a step with one tool costs.")
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="tool-step-") as folder:
        plain = asyncio.run(milliseconds_of_a_run(Path(folder, "plain.db"), runs))
        acting = asyncio.run(milliseconds_of_a_run(Path(folder, "acting.db"), runs, OneTool()))
    step = acting - plain
    sys.stdout.write(
        f"a run {plain:.2f} ms, with a tool call {acting:.2f} ms: a step costs {step:.2f} ms of "
        f"processor time, at most {MOST_MS:g}\n"
    )
    return 1 if step > MOST_MS else 0


if __name__ == "__main__":
    sys.exit(main())
