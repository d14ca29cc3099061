"""The system prompts of Runs, made once for each configuration and state of the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ..knowledge import can_read_skills, date_line, system_prompt
from ..ports import Clock, KnowledgeSource, RunContext
from ..tools import ToolSpec

_KEPT = 256


class SystemPrompts:
    """Adds to an Agent's instructions what it knows. `clock` is Unix time.

    A prompt is composed again only if something in it differs. All arguments of a composition are
    compared; on a hit these are mostly the same objects.
    """

    def __init__(self, source: KnowledgeSource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._composed = lru_cache(_KEPT)(system_prompt)

    async def completed(self, context: RunContext, tools: Sequence[ToolSpec]) -> RunContext:
        """The Run with the whole system prompt as the instructions of its Agent; unchanged where
        there is nothing to add."""
        agent = context.agent
        readable = bool(tools) and can_read_skills(tools)
        knowledge = await self._source.find(agent.workspace, skills=readable)
        if not tools and not knowledge.files:
            return context
        text = self._composed(
            agent.instructions,
            agent.prompt,
            knowledge,
            tuple(tool.name for tool in tools),
            date_line(self._clock(), agent.prompt.time_zone),
            is_subagent=context.spec.session_key.is_subagent,
        )
        return replace(context, agent=replace(agent, instructions=text))
