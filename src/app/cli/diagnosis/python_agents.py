"""Imports the Python agents of a configuration, each in a process of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import Finding

if TYPE_CHECKING:
    from ....adapters.python_agents import Inspection
    from ....domain.settings import Settings

SLOW_SECONDS = 5.0


async def imported(settings: Settings) -> dict[str, Inspection]:
    """What the imports have shown, by the id of the agent."""
    from ....adapters.python_agents import inspected

    targets = {agent.id: agent.python for agent in settings.agents if agent.python is not None}
    found = await asyncio.gather(*(inspected(target) for target in targets.values()))
    return dict(zip(targets, found, strict=True))


def unusable(inspections: dict[str, Inspection]) -> list[Finding]:
    """The agents that cannot be served."""
    return [
        Finding(
            "python_agent_unusable",
            f"The Python agent {agent_id} cannot be used: {inspection.problem}",
            f"`opensoul agents check {agent_id}` shows where; see docs/your-agent.md.",
        )
        for agent_id, inspection in inspections.items()
        if inspection.problem
    ]


def slow(inspections: dict[str, Inspection], seconds: float = SLOW_SECONDS) -> list[str]:
    """A note for each agent whose import takes long."""
    return [
        f"The Python agent {agent_id} takes {inspection.seconds:.0f} s to load. Its first requests "
        "after a start wait for that; others do not."
        for agent_id, inspection in inspections.items()
        if not inspection.problem and inspection.seconds >= seconds
    ]
