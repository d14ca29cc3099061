"""The system prompts of Runs, made once for each configuration and state of the files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ..agents import Agent, PromptSettings
from ..knowledge import (
    Knowledge,
    PromptPart,
    can_read_skills,
    date_line,
    prompt_parts,
    system_prompt,
)
from ..ports import Clock, KnowledgeSource, RunContext
from ..tools import ToolSpec

logger = logging.getLogger(__name__)

_MOST_KEPT = 256

_Key = tuple[str, tuple[str, ...], bool]
_Inputs = tuple[str, PromptSettings, Knowledge, str]


class SystemPrompts:
    """Adds to an Agent's instructions what it knows. `clock` is Unix time.

    The last prompt of each agent and set of tools is kept, with what it was made of. Only these are
    compared, and mostly they are the same objects, so that a turn costs little.
    """

    def __init__(self, source: KnowledgeSource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._composed: dict[_Key, tuple[_Inputs, str]] = {}
        self._logged: dict[str, tuple[str, ...]] = {}
        """The problems of each agent's knowledge."""

    async def completed(self, context: RunContext, tools: Sequence[ToolSpec]) -> RunContext:
        """The Run with the whole system prompt as the instructions of its Agent; unchanged where
        there is nothing to add."""
        agent = context.agent
        knowledge = await self.knowledge(agent, tools)
        if knowledge.problems != self._logged.get(agent.id, ()):
            self._log(agent, knowledge.problems)
        if not tools and not knowledge.files:
            return context
        names = tuple(tool.name for tool in tools)
        key = (agent.id, names, context.spec.session_key.is_subagent)
        today = date_line(self._clock(), agent.prompt.time_zone)
        text = self._text(key, (agent.instructions, agent.prompt, knowledge, today))
        return replace(context, agent=replace(agent, instructions=text))

    def _text(self, key: _Key, inputs: _Inputs) -> str:
        kept = self._composed.get(key)
        if kept is not None and kept[0] == inputs:
            return kept[1]
        if kept is None and len(self._composed) >= _MOST_KEPT:
            self._composed.clear()
        _, names, is_subagent = key
        instructions, settings, knowledge, today = inputs
        text = system_prompt(
            instructions, settings, knowledge, names, today, is_subagent=is_subagent
        )
        self._composed[key] = inputs, text
        return text

    def _log(self, agent: Agent, problems: tuple[str, ...]) -> None:
        """Log the problems that are new."""
        for problem in sorted({*problems}.difference(self._logged.get(agent.id, ()))):
            extra = {"agent": agent.id, "workspace": agent.workspace, "problem": problem}
            logger.warning("a system prompt is incomplete", extra=extra)
        self._logged[agent.id] = problems

    async def knowledge(self, agent: Agent, tools: Sequence[ToolSpec]) -> Knowledge:
        """What an Agent with these tools knows."""
        readable = bool(tools) and can_read_skills(tools)
        return await self._source.find(agent.workspace, skills=readable)

    def parts(
        self, agent: Agent, tools: Sequence[ToolSpec], knowledge: Knowledge
    ) -> tuple[PromptPart, ...]:
        """The parts of the prompt that a Run of the Agent has now."""
        names = [tool.name for tool in tools]
        today = date_line(self._clock(), agent.prompt.time_zone)
        return prompt_parts(agent.instructions, agent.prompt, knowledge, names, today)
