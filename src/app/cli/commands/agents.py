"""`opensoul agents`: the configured agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ...terminal import aligned, echo
from ..common.configuration import load_config
from ..common.lazy import ListGroup
from ..common.state import State, common_options, print_json

if TYPE_CHECKING:
    from ....domain.agents import Agent, AgentDirectory


@click.group(cls=ListGroup)
@common_options
def agents() -> None:
    """Show the configured agents; without a command, list them."""


@agents.subcommand("list")
def list_agents(state: State) -> None:
    """List the agents, and the models they use in the order they are tried."""
    directory = load_config(state).settings.agents
    if state.json:
        listed = [_described(agent, directory) for agent in directory]
        print_json({"default": directory.default.id, "agents": listed})
    else:
        echo("\n".join(_table(directory)))


def _described(agent: Agent, directory: AgentDirectory) -> dict[str, object]:
    refs = [target.ref for target in agent.models]
    return {
        "id": agent.id,
        "name": agent.name,
        "default": agent is directory.default,
        "runner": agent.runner,
        "model": refs[0] if refs else None,
        "fallbacks": refs[1:],
    }


def _table(directory: AgentDirectory) -> list[str]:
    rows = [("ID", "NAME", "DEFAULT", "MODEL", "FALLBACKS")]
    for agent in directory:
        refs = [target.ref for target in agent.models]
        default = "yes" if agent is directory.default else ""
        rows.append((agent.id, agent.name, default, "".join(refs[:1]), ", ".join(refs[1:])))
    return aligned(rows)
