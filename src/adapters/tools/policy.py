"""A Toolbox that offers and runs what the policy of the agent allows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from ...domain.messages import ToolCall
from ...domain.ports import ApprovalBook, Toolbox, ToolContext
from ...domain.tools import (
    Ruling,
    ToolOutput,
    ToolResult,
    ToolSpec,
    Verdict,
    approval_id,
)


class PolicyToolbox:
    """The tools of `tools` that `Agent.tools` allows.

    A call is ruled on again when it is run, by its arguments: a model can call a tool that it was
    not offered, and a run can be started in other ways than by the loop. A call that needs an
    approval runs only if `approvals` has one for it.
    """

    def __init__(self, tools: Toolbox, approvals: ApprovalBook) -> None:
        self._tools = tools
        self._approvals = approvals
        self._specs: dict[tuple[str, str], ToolSpec] = {}
        """The last known tools, by the id of the agent and the name of the tool."""

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        if not context.agent.tools.grants:
            return ()
        specs = await self._known(context)
        offered = []
        for spec, ruling in zip(specs, context.rulings(specs), strict=True):
            if ruling.verdict is Verdict.ASK:
                asks = partial(_asks, spec, context)
                offered.append(replace(spec, ask=True, ask_if=asks))
            elif ruling.verdict is Verdict.ALLOWED:
                offered.append(spec)
        return tuple(offered)

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        if (refusal := await self._refusal(context, call, key)) is not None:
            yield ToolResult(refusal, is_error=True)
            return
        async with aclosing(self._tools.run(context, call, key=key)) as outputs:
            async for output in outputs:
                yield output

    async def close(self) -> None:
        await self._tools.close()

    async def _refusal(self, context: ToolContext, call: ToolCall, key: str) -> str | None:
        """Why the call is not run; None: it is."""
        tool = (context.agent.id, call.name)
        if tool not in self._specs and context.agent.tools.grants:
            await self._known(context)  # A later attempt may be made by another process.
        spec = self._specs.get(tool, ToolSpec(call.name, ""))
        ruling = _ruling(spec, context, call)
        if ruling.verdict is Verdict.DENIED:
            return f"denied: {call.name!r} is not allowed here ({ruling.rule})"
        if ruling.verdict is Verdict.ASK and not await self._approved(context, call, key):
            return f"denied: nobody approved this call of {call.name!r} ({ruling.rule})"
        return None

    async def _approved(self, context: ToolContext, call: ToolCall, key: str) -> bool:
        """Whether there is an approval of exactly this call. Raises StoreFailed."""
        approval = await self._approvals.find(approval_id(key, call))
        if approval is None or approval.decision is None or not approval.decision.allows:
            return False
        asked = (approval.run_id, approval.agent_id, approval.call)
        return asked == (context.run_id, context.agent.id, call)

    async def _known(self, context: ToolContext) -> Sequence[ToolSpec]:
        specs = tuple(await self._tools.tools(context))
        self._specs |= {(context.agent.id, spec.name): spec for spec in specs}
        return specs


def _asks(spec: ToolSpec, context: ToolContext, call: ToolCall) -> bool:
    return _ruling(spec, context, call).verdict is Verdict.ASK


def _ruling(spec: ToolSpec, context: ToolContext, call: ToolCall) -> Ruling:
    return context.rulings([spec], call)[0]
