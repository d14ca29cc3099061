"""`opensoul agents`: the configured agents."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ...terminal import aligned, echo, one_line, print_fields
from ..common.configuration import load_config
from ..common.lazy import ListGroup
from ..common.state import Seconds, State, common_options, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ....adapters.mcp import McpToolbox
    from ....domain.agents import Agent, AgentDirectory, PythonTarget
    from ....domain.knowledge import Knowledge, PromptPart
    from ....domain.scopes import Scope
    from ....domain.settings import Settings
    from ....domain.tools import Ruling, ToolSpec
    from ...container import Container

_NATIVE = "native"


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
    from ....adapters.mcp import McpToolbox
    from ....domain.tools import unmatched

    settings = load_config(state).settings
    agent = _found(settings, agent_id)
    held = None if scopes is None else _scopes(scopes)
    # All servers, also those that the agent may not use.
    mcp = McpToolbox(lambda: settings, os.environ, _container(state, settings).sandbox())
    found = asyncio.run(_ruled(_container(state, settings, mcp), agent, held))
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


def _found(settings: Settings, agent_id: str) -> Agent:
    from ....domain.errors import UnknownAgent
    from ..common.errors import CommandError

    try:
        return settings.agents.find(agent_id, param="ID")
    except UnknownAgent as error:
        raise CommandError(str(error), code="unknown_agent") from None


def _container(state: State, settings: Settings, mcp: McpToolbox | None = None) -> Container:
    """The parts of a Gateway with these settings."""
    from dependency_injector.providers import Object

    from ...container import Container

    replaced = {} if mcp is None else {"mcp": Object(mcp)}
    return Container(
        overrides=Object(state.overrides()), settings=Object(lambda: settings), **replaced
    )


async def _ruled(
    container: Container, agent: Agent, scopes: frozenset[Scope] | None = None
) -> list[tuple[ToolSpec, Ruling]]:
    """Each tool that there is, with the ruling for a run of the agent's main session."""
    from ....domain.ports import ToolContext
    from ....domain.sessions import MAIN, SessionKey

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


@agents.subcommand()
@click.argument("agent_id", metavar="ID")
def prompt(state: State, agent_id: str) -> None:
    """Show the system prompt of an agent, with the estimated tokens of each part. No Gateway has to
    run; MCP servers whose tools the agent may use are started."""
    settings = load_config(state).settings
    agent = _found(settings, agent_id)
    parts, tools, knowledge = asyncio.run(_prompt(_container(state, settings), agent))
    text = "\n\n".join(part.text for part in parts)
    schemas = json.dumps([[tool.name, tool.description, dict(tool.parameters)] for tool in tools])
    counts = [(part.name, _tokens(part.text)) for part in parts]
    total = sum(tokens for _, tokens in counts)
    definitions = _tokens(schemas) if tools else 0
    problems = [*knowledge.problems, *_problems(agent, knowledge, total + definitions)]
    if state.json:
        rows = [
            {"name": part.name, "tokens": tokens, "text": part.text}
            for part, (_, tokens) in zip(parts, counts, strict=True)
        ]
        print_json(
            {
                "agent": agent.id,
                "runner": agent.runner,
                "tokens": total,
                "parts": rows,
                "text": text,
                "tools": {"names": [tool.name for tool in tools], "tokens": definitions},
                "problems": problems,
            }
        )
        return
    lines = [(name, str(tokens)) for name, tokens in (*counts, ("total", total))]
    echo("\n".join(aligned([("PART", "TOKENS"), *lines])))
    if tools:
        echo(f"The definitions of {len(tools)} tools take about {definitions} tokens besides.")
    for problem in problems:
        echo(f"problem: {one_line(problem)}")
    echo(f"\n{text}" if text else "\nThe agent has no system prompt.")


async def _prompt(
    container: Container, agent: Agent
) -> tuple[Sequence[PromptPart], Sequence[ToolSpec], Knowledge]:
    """The parts, the tools that are offered beside them, and what the agent knows."""
    from ....domain.knowledge import NOTHING_KNOWN
    from ....domain.tools import Verdict

    prompts = container.system_prompts()
    if agent.runner != _NATIVE:  # Other runners get the instructions, and no tools.
        return prompts.parts(agent, (), NOTHING_KNOWN), (), NOTHING_KNOWN
    ruled = await _ruled(container, agent) if agent.tools.grants else []
    tools = [spec for spec, ruling in ruled if ruling.verdict is not Verdict.DENIED]
    knowledge = await prompts.knowledge(agent, tools)
    return prompts.parts(agent, tools, knowledge), tools, knowledge


def _problems(agent: Agent, knowledge: Knowledge, tokens: int) -> Iterator[str]:
    """What does not fit the agent's settings. `tokens`: of the prompt and the tools."""
    known = {skill.name.casefold() for skill in knowledge.skills}
    for name in agent.prompt.skills or ():
        if name.casefold() not in known:
            yield f"skills: {name} names no skill that this agent can read."
    for target in agent.models:
        if tokens > target.context_window // 2:
            yield (
                f"{target.ref} has a context window of {target.context_window} tokens, of which "
                f"the prompt and the tools take about {tokens}."
            )


def _tokens(text: str) -> int:
    from ....domain.messages import Role, text_message
    from ....domain.sessions import estimate

    nothing = text_message(Role.SYSTEM, "")
    return estimate(text_message(Role.SYSTEM, text)) - estimate(nothing)


@agents.subcommand()
@click.argument("target", metavar="ID|MODULE:TARGET")
@click.option("--path", metavar="DIR", help="The directory of MODULE; the current one by default.")
@click.option("--timeout", type=Seconds(min=0, min_open=True), default=60, help="Seconds to wait.")
def check(state: State, target: str, path: str | None, timeout: float) -> int:
    """Import a Python agent in a process of its own, and describe it or show what to change.

    The exit code is 1 if it cannot be served. No Gateway has to run.
    """
    from ....adapters.python_agents import inspected

    agent_id, python = _python_target(state, target, path)
    found = asyncio.run(inspected(python, patience=timeout))
    if state.json:
        agent = {"id": agent_id, **_python(python), "ok": not found.problem}
        print_json(agent | asdict(found))
    elif found.problem:
        if found.traceback:
            echo(f"{found.traceback}\n", err=True)
        echo(f"opensoul: {found.problem}", err=True)
    else:
        print_fields(
            (
                ("agent", agent_id),
                ("target", python.target),
                ("path", python.path),
                ("framework", found.framework),
                ("kind", found.kind),
                ("isolation", python.isolation.value),
            )
        )
    return 1 if found.problem else 0


def _python_target(state: State, text: str, path: str | None) -> tuple[str | None, PythonTarget]:
    """The target of a configured agent, or the target itself. Raises CommandError."""
    from ....domain.agents import PythonTarget
    from ..common.errors import CommandError

    if ":" in text:
        directory = os.path.abspath(path or ".")
        return None, PythonTarget(text, directory)
    agent = _found(load_config(state).settings, text)
    if agent.python is None:
        message = f"The agent `{agent.id}` has the runner `{agent.runner}`; it is no Python agent."
        raise CommandError(message, code="no_python_agent")
    return agent.id, agent.python


@agents.subcommand()
@click.argument("name")
@click.option(
    "--framework",
    type=click.Choice(["plain", "pydantic-ai", "langgraph", "openai-agents"]),
    default="plain",
    show_default=True,
)
@click.option("--path", metavar="DIR", default=".", help="Where to write it; here by default.")
def new(state: State, name: str, framework: str, path: str) -> None:
    """Write a Python agent that runs, and add it to the configuration.

    Nothing is overwritten.
    """
    from ..development.scaffolding import write_agent

    write_agent(state, name, framework, path)


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
        **({} if agent.python is None else _python(agent.python)),
    }


def _python(target: PythonTarget) -> dict[str, object]:
    return {"target": target.target, "path": target.path, "isolation": target.isolation.value}


def _table(directory: AgentDirectory) -> list[str]:
    head = ("ID", "NAME", "DEFAULT", "MODEL", "FALLBACKS")
    rows, targets = [head], ["TARGET"]
    for agent in directory:
        refs = [target.ref for target in agent.models]
        default = "yes" if agent is directory.default else ""
        rows.append((agent.id, agent.name, default, "".join(refs[:1]), ", ".join(refs[1:])))
        targets.append("" if agent.python is None else agent.python.target)
    if any(targets[1:]):
        return aligned([(*row, target) for row, target in zip(rows, targets, strict=True)])
    return aligned(rows)
