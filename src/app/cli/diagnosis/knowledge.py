"""Checks of what agents are to know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import Finding

if TYPE_CHECKING:
    from ....domain.settings import Settings


def left_out(settings: Settings, skills: Path) -> Iterator[Finding]:
    """The files and skills that system prompts are without, since they cannot be used."""
    from ....adapters.tools import WorkspaceKnowledge
    from ....domain.tools import BUILT_IN_SOURCE

    source = WorkspaceKnowledge(str(skills))
    problems: dict[str, str] = {}
    for agent in settings.agents:
        may_read = agent.tools.may_name("read", BUILT_IN_SOURCE)
        for problem in source.read(agent.workspace, skills=may_read).problems:
            shared = problem.startswith("/")
            problems.setdefault(problem if shared else f"{agent.workspace}/{problem}", agent.id)
    for problem, agent_id in problems.items():
        yield Finding(
            "left_out_of_prompt",
            problem,
            f"Correct or remove it; `opensoul agents prompt {agent_id}` shows the prompt.",
        )
