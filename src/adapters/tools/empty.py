"""The Toolbox without tools: nothing is offered to a model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from ...domain.messages import ToolCall
from ...domain.ports import ToolContext
from ...domain.tools import ToolOutput, ToolResult, ToolSpec


class EmptyToolbox:
    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        return ()

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        yield ToolResult(f"There is no tool {call.name!r}.", is_error=True)

    async def close(self) -> None:
        """There is nothing to release."""
