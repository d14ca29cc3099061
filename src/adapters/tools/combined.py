"""A Toolbox that is made of several sources."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from ...domain.messages import ToolCall
from ...domain.ports import Toolbox, ToolContext
from ...domain.tools import ToolOutput, ToolResult, ToolSpec

logger = logging.getLogger(__name__)

_LISTING_SECONDS = 10.0


class CombinedToolbox:
    """The tools of all sources. `sources` maps the name of each source to its Toolbox.

    A failure of one source affects no other source: its tools are left out of the run, and an
    exception in a call becomes a ToolResult. Both are logged.

    The first source that offers a name to an agent keeps it while the process lives, also when it
    cannot list its tools for a while. Otherwise a call could reach another tool than the one whose
    description the model has read.
    """

    def __init__(
        self, sources: Mapping[str, Toolbox], *, listing_seconds: float = _LISTING_SECONDS
    ) -> None:
        self._sources = dict(sources)
        self._listing_seconds = listing_seconds
        self._owners: dict[tuple[str, str], str] = {}
        """The source of each tool, by the id of the agent and the name of the tool."""
        self._warned: set[tuple[str, str, str]] = set()

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        offered: dict[str, ToolSpec] = {}
        for source in self._sources:
            for spec in await self._listed(source, context):
                owner = self._owners.setdefault((context.agent.id, spec.name), source)
                if owner != source or spec.name in offered:
                    self._warn(spec.name, owner, source)
                else:
                    offered[spec.name] = spec
        return tuple(offered.values())

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        tool = (context.agent.id, call.name)
        if tool not in self._owners:
            await self.tools(context)  # A later attempt may be made by another process.
        source = self._owners.get(tool)
        if source is None:
            yield ToolResult(f"There is no tool {call.name!r}.", is_error=True)
            return
        try:
            async with aclosing(self._sources[source].run(context, call, key=key)) as outputs:
                async for output in outputs:
                    yield output
        except Exception as error:
            extra = {"source": source, "tool": call.name, "agent": context.agent.id}
            logger.exception("a tool raised an exception", extra=extra)
            # Without the text of the exception: it may contain a path or a secret.
            text = f"The tool {call.name!r} failed: {type(error).__name__}."
            yield ToolResult(text, is_error=True)

    async def close(self) -> None:
        for source, toolbox in self._sources.items():
            try:
                await toolbox.close()
            except Exception:
                logger.exception("a source of tools was not closed", extra={"source": source})

    async def _listed(self, source: str, context: ToolContext) -> Sequence[ToolSpec]:
        """The tools of a source, under its name; none if it fails."""
        try:
            async with asyncio.timeout(self._listing_seconds):
                specs = await self._sources[source].tools(context)
            return [replace(spec, source=source) for spec in specs]
        except Exception:
            extra = {"source": source, "agent": context.agent.id}
            logger.exception("a run is without the tools of a source", extra=extra)
            return ()

    def _warn(self, tool: str, owner: str, source: str) -> None:
        conflict = (tool, owner, source)
        if conflict not in self._warned:
            self._warned.add(conflict)
            extra = {"tool": tool, "offered_by": owner, "left_out_of": source}
            logger.warning("two sources offer a tool of the same name", extra=extra)
