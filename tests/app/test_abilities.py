"""What a process finds that it cannot execute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.adapters.providers.local.client import LocalModels
from opensoul.adapters.python_agents import PythonAgents
from opensoul.app.abilities import Abilities
from opensoul.domain.agents import Agent, PythonTarget
from opensoul.domain.models import ModelTarget, Secret
from opensoul.domain.settings import NodeRole, NodeSettings, Settings, StoreSettings
from opensoul.domain.tools import SandboxMode, SandboxPolicy
from tests.fakes.domain import agent, settings, target
from tests.fakes.strict import StrictModel

SHARED = StoreSettings(url=Secret("postgresql:///soul"))
CONFINED = SandboxPolicy(SandboxMode.BUBBLEWRAP)


class Shed:
    """A Sandbox that is not available in the workspace `bare`."""

    async def problem(self, policy: SandboxPolicy, workspace: str) -> str:
        return "bwrap is missing in /secret/place" if workspace == "bare" else ""

    async def confined(
        self, policy: SandboxPolicy, workspace: str, argv: Sequence[str], *, directory: str = ""
    ) -> list[str]:
        return list(argv)


def local(file: Path | None) -> ModelTarget:
    made = target("local/m", file=None if file is None else str(file))
    return replace(made, provider=replace(made.provider, api="local"))


class Machine:
    """The abilities of a process with these agents."""

    def __init__(self, *agents: Agent, **changes: object) -> None:
        self.settings: Settings = replace(settings(agents, store=SHARED), **changes)  # type: ignore[arg-type]
        self.python_agents = PythonAgents(lambda _: [])
        models = LocalModels(inner=StrictModel(), models_dir=Path("/nowhere"), command=["serve"])
        self.abilities = Abilities(lambda: self.settings, models, Shed(), self.python_agents)

    async def unable(self) -> dict[str, str]:
        await self.abilities.look()
        return dict(self.abilities.unable)


async def test_an_agent_whose_models_are_all_local_needs_a_file_of_one_of_them(
    tmp_path: Path,
) -> None:
    file, missing = tmp_path / "there.gguf", tmp_path / "missing.gguf"
    file.touch()
    machine = Machine(
        agent("main", local(missing)),
        agent("there", local(file)),
        agent("either", local(missing), local(file)),
        agent("remote", local(missing), target("acme/one")),
        agent("nameless", local(None)),
        agent("without"),
    )
    unable = await machine.unable()
    assert set(unable) == {"main", "nameless"}
    assert unable["main"].startswith(f"The model file {missing} of local/m does not exist.")
    missing.touch()
    assert set(await machine.unable()) == {"nameless"}


async def test_an_agent_needs_its_module_and_its_sandbox() -> None:
    python = agent("main", python=PythonTarget("no_such_module_of_tests:agent"))
    machine = Machine(
        python,
        agent("bare", sandbox=CONFINED, workspace="bare"),
        agent("roomy", sandbox=CONFINED, workspace="roomy"),
        agent("open", workspace="bare"),
    )
    machine.python_agents.configure(machine.settings.agents)
    try:
        await machine.python_agents.loaded("main")
        # Sentences for everybody: what a module raises, and paths, are for administrators.
        assert await machine.unable() == {
            "main": "It cannot be loaded.",
            "bare": "Its sandbox is not available.",
        }
    finally:
        await machine.python_agents.close()


@pytest.mark.parametrize(
    ("agents", "unable"),
    [(None, set()), (frozenset({"beta"}), {"main"}), (frozenset[str](), {"main", "beta"})],
)
async def test_a_node_executes_the_agents_that_it_is_for(
    agents: frozenset[str] | None, unable: set[str]
) -> None:
    machine = Machine(agent("main"), agent("beta"), node=NodeSettings(agents=agents))
    assert set(await machine.unable()) == unable


@pytest.mark.parametrize(
    "changes",
    [
        {"store": StoreSettings()},
        {"node": NodeSettings(role=NodeRole.GATEWAY, agents=frozenset())},
    ],
)
async def test_a_process_that_is_alone_or_executes_nothing_looks_for_nothing(
    changes: dict[str, object],
) -> None:
    bare = agent("bare", local(None), sandbox=CONFINED, workspace="bare")
    assert await Machine(agent("main"), bare, **changes).unable() == {}
