"""`opensoul agents`: the configured agents."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click

from ...terminal import aligned, echo
from ..common.configuration import load_config
from ..common.lazy import ListGroup
from ..common.state import State, common_options, print_json

if TYPE_CHECKING:
    from ....domain.agents import Agent, AgentDirectory
    from ....domain.scopes import Scope
    from ....domain.settings import Settings
    from ....domain.tools import Ruling, ToolSpec


@click.group(cls=ListGroup)
@common_options
def agents() -> None:
    """Show the configured agents; without a command, list them."""


@agents.subcommand()
@click.argument("agent_id", metavar="ID")
@click.option(
    "--scopes",
    metavar="SCOPE,...",
    help="For a client with these scopes only, such as operator.read.",
)
def tools(state: State, agent_id: str, scopes: str | None) -> None:
    """Show which tools an agent may use, and the rule that decided. No Gateway has to run."""
    from ....domain.errors import UnknownAgent
    from ....domain.tools import unmatched
    from ..common.errors import CommandError

    settings = load_config(state).settings
    try:
        agent = settings.agents.find(agent_id, param="ID")
    except UnknownAgent as error:
        raise CommandError(str(error), code="unknown_agent") from None
    held = None if scopes is None else _scopes(scopes)
    found = asyncio.run(_ruled(state, settings, agent, held))
    unknown = unmatched([spec for spec, _ in found], agent.tools)
    if state.json:
        rows = [_ruling(spec, ruling) for spec, ruling in found]
        entries = [{"key": key, "entry": entry} for key, entry in unknown]
        print_json({"agent": agent.id, "tools": rows, "unmatched": entries})
        return
    lines = [("TOOL", "SOURCE", "VERDICT", "RULE")]
    for spec, ruling in found:
        why = f"{ruling.rule} (for {ruling.model})" if ruling.model else str(ruling.rule)
        lines.append((spec.name, spec.source, str(ruling.verdict), why))
    echo("\n".join(aligned(lines)))
    for key, entry in unknown:
        echo(f"{key}: {entry} names no tool that there is.")


def _scopes(text: str) -> frozenset[Scope]:
    """The scopes of a list with commas, also without `operator.`. Raises CommandError."""
    from ....domain.scopes import Scope
    from ..common.errors import CommandError

    known = {scope.value: scope for scope in Scope}
    known |= {name.removeprefix("operator."): scope for name, scope in known.items()}
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        message = f"--scopes: there is no scope {unknown[0]!r}. Scopes: {', '.join(Scope)}."
        raise CommandError(message, code="invalid_option")
    return frozenset(known[name] for name in names)


async def _ruled(
    state: State, settings: Settings, agent: Agent, scopes: frozenset[Scope] | None
) -> list[tuple[ToolSpec, Ruling]]:
    """Each tool that there is, with the ruling for a run of the agent's main session."""
    from dependency_injector.providers import Object

    from ....adapters.mcp import McpToolbox
    from ....domain.ports import ToolContext
    from ....domain.sessions import MAIN, SessionKey
    from ...container import Container
    from ..diagnosis.sandboxes import sandbox_of

    # All servers, also those that the agent may not use.
    mcp = McpToolbox(lambda: settings, os.environ, sandbox_of(state, settings))
    container = Container(
        overrides=Object(state.overrides()), settings=Object(lambda: settings), mcp=Object(mcp)
    )
    toolbox = container.all_tools()
    try:
        context = ToolContext(agent, "", SessionKey(agent.id, MAIN), "", scopes)
        specs = await toolbox.tools(context)
    finally:
        await toolbox.close()
    return list(zip(specs, context.rulings(specs), strict=True))


def _ruling(spec: ToolSpec, ruling: Ruling) -> dict[str, object]:
    return {
        "name": spec.name,
        "source": spec.source,
        "verdict": str(ruling.verdict),
        "layer": str(ruling.rule.layer),
        "key": ruling.rule.key,
        "entry": ruling.rule.entry,
        "rule": str(ruling.rule),
        "model": ruling.model or None,
    }


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
