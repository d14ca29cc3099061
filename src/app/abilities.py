"""Which agents this process cannot execute, because it lacks what they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..adapters.providers.local.client import LocalModels
from ..adapters.python_agents import PythonAgents, Status
from ..domain.agents import Agent
from ..domain.ports import CurrentSettings, Sandbox
from ..domain.settings import NodeRole

LOOK_SECONDS: Final = 5.0
_LOCAL: Final = "local"
"""The API of models that this process serves itself, from a file."""


class Abilities:
    """Looks for what agents need of the machine: the file of their local model, their Python
    module, a sandbox, and that `node.agents` names them. `look` is due every LOOK_SECONDS."""

    def __init__(
        self,
        settings: CurrentSettings,
        local: LocalModels,
        sandbox: Sandbox,
        python_agents: PythonAgents,
    ) -> None:
        self._settings = settings
        self._local = local
        self._sandbox = sandbox
        self._python_agents = python_agents
        self.unable: Mapping[str, str] = {}
        """By agent, a sentence for everybody; as of the last look."""

    async def look(self) -> None:
        """Look now. A process without others, or that executes no agents, need not know."""
        settings = self._settings()
        if settings.store.url is None or settings.node.role is NodeRole.GATEWAY:
            return
        failed = {
            state.agent_id
            for state in self._python_agents.states()
            if state.status is Status.FAILED
        }
        unable = {}
        for agent in settings.agents:
            if settings.node.agents is not None and agent.id not in settings.node.agents:
                unable[agent.id] = "node.agents does not name it."
            elif agent.id in failed:
                unable[agent.id] = "It cannot be loaded."
            elif problems := list(self._problems_of_models(agent)):
                unable[agent.id] = problems[0]
            elif agent.sandbox.confines and await self._sandbox.problem(
                agent.sandbox, agent.workspace
            ):
                unable[agent.id] = "Its sandbox is not available."
        self.unable = unable

    def _problems_of_models(self, agent: Agent) -> Iterator[str]:
        """What is wrong with each model of the agent; nothing where one of them can be used."""
        if agent.python is None and all(
            target.provider.api == _LOCAL and self._local.problem(target) for target in agent.models
        ):
            yield from (self._local.problem(target) for target in agent.models)
