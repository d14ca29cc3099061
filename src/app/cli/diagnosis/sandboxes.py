"""Whether the sandboxes of the configuration are available on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.state import State
from . import Finding

if TYPE_CHECKING:
    from ....domain.ports import Sandbox
    from ....domain.settings import Settings


def sandbox_of(state: State, settings: Settings) -> Sandbox:
    """The sandbox that a Gateway would use."""
    from dependency_injector.providers import Object

    from ...container import Container

    overrides = Object(state.overrides())
    return Container(overrides=overrides, settings=Object(lambda: settings)).sandbox()


async def unavailable(settings: Settings, sandbox: Sandbox) -> list[Finding]:
    """A finding for each reason why commands of agents are refused."""
    agents: dict[str, list[str]] = {}
    for agent in settings.agents:
        if agent.sandbox.confines:
            problem = await sandbox.problem(agent.sandbox, agent.workspace)
            if problem:
                agents.setdefault(problem, []).append(agent.id)
    return [
        Finding(
            "sandbox_unavailable",
            f"`exec` of {', '.join(names)} refuses to run. {why}",
            "Check `sandbox` in agents.defaults and agents.list; docs/tools.md says more.",
        )
        for why, names in agents.items()
    ]
