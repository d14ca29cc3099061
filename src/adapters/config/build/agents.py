"""Builds the directory of agents, with their models, from `agents.*`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ....domain.agents import (
    DEFAULT_AGENT_ID,
    DEFAULT_RESULT_CHARS,
    Agent,
    AgentDirectory,
    Isolation,
    PromptSettings,
    PythonTarget,
    RunLimits,
    SessionAccess,
    SubagentRules,
    Visibility,
    is_target,
)
from ....domain.errors import InvalidRequest
from ....domain.models import ModelDirectory, ModelTarget
from ....domain.sessions import thinking_level, with_thinking
from ....domain.tools import ToolPolicy, ToolRules
from ..errors import KeyPath, dotted, guess, listing
from ..read import Building
from ..schema.agents import (
    AgentSettings,
    Identity,
    ModelChoice,
    RunLimitSettings,
    SubagentSettings,
)
from ..schema.tools import ToolsSection
from .aliases import Aliases, NoSuchModel
from .context import Context, build_context
from .models import DEFAULT_MODEL, Models, build_directory, build_embedding_models
from .sandbox import build_sandbox, note_default_sandbox
from .tools import build_tool_rules

PYTHON_RUNNER = "python"
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DEFAULTS = ("agents", "defaults", "model")
_SUBAGENT_KEYS = {
    "max_spawn_depth": "max_depth",
    "max_children_per_agent": "max_children",
    "allow_agents": "other_agents",
    "thinking": "thinking",
    "run_timeout_seconds": "timeout",
}


def build_agents(
    building: Building,
) -> tuple[AgentDirectory, ModelDirectory, tuple[ModelTarget, ...]]:
    """The agents, only `main` if none is listed, the directory of models, and the embedding
    models."""
    models = Models(building, Aliases(building))
    found = _identified(building)
    default_id = _default(building, found)
    entries = found or [_Entry(DEFAULT_AGENT_ID, AgentSettings(), ())]
    shared = build_tool_rules(building, building.config.tools, ("tools",))
    context = build_context(building)
    side = _side_task_models(models, building.config.agents.defaults.side_task_model)
    agents = [
        _agent(building, models, shared, context, side, entry, is_default=entry.id == default_id)
        for entry in entries
    ]
    note_default_sandbox(building)
    embedding = build_embedding_models(models)
    models.note_the_rest()
    return AgentDirectory(agents, default_id), build_directory(models, agents), embedding


@dataclass(frozen=True, slots=True)
class _Entry:
    """A configured agent, with its id in lower case and its path."""

    id: str
    settings: AgentSettings
    where: KeyPath


def _identified(building: Building) -> list[_Entry]:
    """The agents with valid, unique ids; others are reported."""
    kept: dict[str, _Entry] = {}
    for name, place, entry in _written(building):
        agent_id = name.lower()
        if not _ID.fullmatch(agent_id):
            message = (
                "must begin with a letter or digit and contain only letters, digits, `_` and `-`, "
                "at most 64"
            )
            building.report(message, *place)
        elif agent_id in kept:
            first = ".".join(map(str, building.origin(kept[agent_id].where)))
            building.report(f"{first} has the same id, `{agent_id}` (case does not count)", *place)
        else:
            kept[agent_id] = _Entry(agent_id, entry, place[:3])
    return list(kept.values())


def _written(building: Building) -> Iterator[tuple[str, KeyPath, AgentSettings]]:
    """The agents of `agents.entries`, or else of `agents.list`: id, path of the id, settings."""
    agents = building.config.agents
    if agents.entries and agents.listed:
        building.note("agents.list has no effect beside agents.entries.")
    for name, named in agents.entries.items():
        where: KeyPath = ("agents", "entries", name)
        if named.id is not None and named.id.lower() != name.lower():
            building.report(f"must be the key, `{name}`, or be left out", *where, "id")
        yield name, where, named
    for i, listed in enumerate(agents.listed if not agents.entries else ()):
        yield listed.id, ("agents", "list", i, "id"), listed


def _default(building: Building, found: Sequence[_Entry]) -> str:
    """The marked agent, else `systemAgent`, else the first."""
    marked = [entry.id for entry in found if entry.settings.default]
    if len(marked) > 1:
        building.note(
            f"Several agents are marked as default ({listing(marked)}); `{marked[0]}` is used."
        )
    named = building.config.agents.defaults.system_agent.agent_id
    known = [entry.id for entry in found] or [DEFAULT_AGENT_ID]
    if named is not None and named.lower() not in known and not building.broken("agents"):
        where = ("agents", "defaults", "systemAgent", "agentId")
        message = f"there is no agent `{named}`{guess(named, known)} Agents: {listing(known)}"
        building.report(message, *where)
    chosen = [entry_id for entry_id in known if named is not None and entry_id == named.lower()]
    return next(iter([*marked, *chosen, *known]))


def _agent(
    building: Building,
    models: Models,
    shared: ToolRules,
    context: Context,
    side_task_models: tuple[ModelTarget, ...],
    found: _Entry,
    *,
    is_default: bool,
) -> Agent:
    defaults = building.config.agents.defaults
    entry, where = found.settings, found.where
    timeout = defaults.timeout_seconds if entry.timeout_seconds is None else entry.timeout_seconds
    own = entry.instructions
    _check_runner(building, entry, where)
    _check_avatar(building, entry, where)
    return Agent(
        id=found.id,
        name=entry.name or entry.identity.name or found.id,
        instructions=_instructions(entry.identity, defaults.instructions if own is None else own),
        models=_thinking(building, found, _models(models, entry.model, defaults.model, where)),
        runner=entry.runner.use,
        python=_python(building, entry, (*where, "runner")),
        workspace=_workspace(building, found, is_default=is_default),
        timeout=float(timeout) or None,
        limits=_limits(entry.limits, defaults.limits),
        max_result_chars=entry.tools.max_result_chars
        or building.config.tools.max_result_chars
        or DEFAULT_RESULT_CHARS,
        compaction=context.compaction,
        pruning=context.pruning,
        tools=ToolPolicy(shared, build_tool_rules(building, entry.tools, (*where, "tools"))),
        sandbox=build_sandbox(building, entry.sandbox, (*where, "sandbox")),
        prompt=_prompt(building, entry),
        subagents=_subagents(building, models, entry.subagents, (*where, "subagents")),
        session_access=_session_access(entry.tools, building.config.tools),
        side_task_models=side_task_models,
    )


def _prompt(building: Building, entry: AgentSettings) -> PromptSettings:
    defaults = building.config.agents.defaults
    skills = defaults.skills if entry.skills is None else entry.skills
    zone = defaults.user_timezone or ""
    try:
        ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        building.note(
            f"agents.defaults.userTimezone `{zone}` has no effect: there is no such time zone."
        )
        zone = ""
    return PromptSettings(
        file_chars=defaults.bootstrap_max_chars,
        all_file_chars=defaults.bootstrap_total_max_chars,
        skills=None if skills is None else tuple(skills),
        time_zone=zone,
    )


def _subagents(
    building: Building, models: Models, own: SubagentSettings, where: KeyPath
) -> SubagentRules:
    """The agent's own keys, else those of the defaults, else those of SubagentRules."""
    general = building.config.agents.defaults.subagents
    written: dict[str, Any] = {}
    for key, name in _SUBAGENT_KEYS.items():
        value = getattr(general, key) if getattr(own, key) is None else getattr(own, key)
        if value is not None:
            written[name] = value
    chosen, place = own.model, (*where, "model", "primary")
    if chosen is None:
        chosen, place = general.model, ("agents", "defaults", "subagents", "model", "primary")
    if chosen is not None and chosen.primary is not None:
        target = _target(models, chosen.primary, place)
        written["model"] = "" if target is None else target.ref
    if "timeout" in written:
        written["timeout"] = float(written["timeout"]) or None
    others = tuple(name.strip().lower() for name in written.pop("other_agents", ()))
    return SubagentRules(**written, other_agents=others)


def _session_access(own: ToolsSection, shared: ToolsSection) -> SessionAccess:
    visibility = own.sessions.visibility or shared.sessions.visibility or "tree"
    others = shared.agent_to_agent if own.agent_to_agent is None else own.agent_to_agent
    patterns: tuple[str, ...] = ()
    if others is not None and others.enabled:
        allow = ["*"] if others.allow is None else others.allow
        patterns = tuple(pattern.strip().lower() for pattern in allow)
    return SessionAccess(Visibility(visibility), patterns)


def _limits(own: RunLimitSettings, general: RunLimitSettings) -> RunLimits:
    """The agent's own keys, else those of the defaults, else those of RunLimits."""
    written: dict[str, Any] = {}
    for name in RunLimitSettings.model_fields:
        chosen = getattr(general, name) if getattr(own, name) is None else getattr(own, name)
        if chosen is not None:
            written[name.removeprefix("max_")] = chosen
    return RunLimits(**written)


def _instructions(identity: Identity, text: str) -> str:
    who = f"You are {identity.name}." if identity.name else ""
    theme = f"Your theme: {identity.theme}." if identity.theme else ""
    line = " ".join(filter(None, (who, theme)))
    return "\n\n".join(filter(None, (line, text.strip())))


def _workspace(building: Building, entry: _Entry, *, is_default: bool) -> str:
    shared = building.config.agents.defaults.workspace
    if entry.settings.workspace is not None:
        return building.path(entry.settings.workspace)
    if not is_default:
        return str(building.locations.state_dir / f"workspace-{entry.id}")
    if shared is not None:
        return building.path(shared)
    return str(building.locations.state_dir / "workspace")


def _models(
    models: Models, own: ModelChoice | None, general: ModelChoice, where: KeyPath
) -> tuple[ModelTarget, ...]:
    """Primary and fallbacks, without duplicates. Own fallbacks, even none, replace the defaults."""
    own_path = (*where, "model")
    names: list[tuple[str, KeyPath]] = []
    if own is not None and own.primary is not None:
        names.append((own.primary, (*own_path, "primary")))
    else:
        names.append((general.primary or DEFAULT_MODEL, (*_DEFAULTS, "primary")))
    if own is not None and own.fallbacks is not None:
        chosen, place = own.fallbacks, own_path
    else:
        chosen, place = general.fallbacks or [], _DEFAULTS
    names += [(name, (*place, "fallbacks", i)) for i, name in enumerate(chosen)]
    return _targets(models, names)


def _side_task_models(models: Models, choice: ModelChoice | None) -> tuple[ModelTarget, ...]:
    if choice is None:
        return ()
    place = ("agents", "defaults", "sideTaskModel")
    names: list[tuple[str, KeyPath]] = []
    if choice.primary is not None:
        names.append((choice.primary, (*place, "primary")))
    names += [(name, (*place, "fallbacks", i)) for i, name in enumerate(choice.fallbacks or ())]
    return _targets(models, names)


def _targets(models: Models, names: Iterable[tuple[str, KeyPath]]) -> tuple[ModelTarget, ...]:
    targets: dict[str, ModelTarget] = {}
    for name, path in names:
        target = _target(models, name, path)
        if target is not None:
            targets.setdefault(target.ref, target)
    return tuple(targets.values())


def _thinking(
    building: Building, entry: _Entry, targets: tuple[ModelTarget, ...]
) -> tuple[ModelTarget, ...]:
    """The models with the agent's level of thinking, unless they have one of their own."""
    own, where = entry.settings.thinking_default, (*entry.where, "thinkingDefault")
    if own is None:
        own = building.config.agents.defaults.thinking_default
        where = ("agents", "defaults", "thinkingDefault")
    if own is None:
        return targets
    try:
        level = thinking_level(own)
    except InvalidRequest:
        place = ".".join(map(str, building.origin(where)))
        building.note(f"{place} `{own}` has no effect: it is none of the known levels.")
        return targets
    return tuple(
        target if "reasoning_effort" in dict(target.params) else with_thinking(target, level)
        for target in targets
    )


def _target(models: Models, name: str, path: KeyPath) -> ModelTarget | None:
    if models.building.broken(*path):
        return None
    try:
        return models.target(name)
    except NoSuchModel as error:
        models.building.report(str(error), *path)
        return None


def _check_runner(building: Building, entry: AgentSettings, where: KeyPath) -> None:
    known, runner = building.inputs.runners, entry.runner.use
    if known is not None and runner not in known:
        message = f"there is no runner `{runner}`{guess(runner, known)} "
        building.report(f"{message}Runners: {listing(sorted(known))}", *where, "runner")


def _python(building: Building, entry: AgentSettings, where: KeyPath) -> PythonTarget | None:
    runner = entry.runner
    if runner.use != PYTHON_RUNNER:
        for key in ("target", "path", "memory_megabytes", "python"):
            if getattr(runner, key) is not None:
                building.note(f'{dotted((*where, key))} has an effect with `use: "python"` only.')
        return None
    if runner.target is None:
        message = "is missing; it names the agent, such as `my_package.agents:support`"
        building.report(message, *where, "target")
    elif not is_target(runner.target):
        message = "must be `module:attribute`, such as `my_package.agents:support`"
        building.report(message, *where, "target")
    isolation = Isolation(runner.isolation)
    if runner.memory_megabytes is not None and isolation is not Isolation.PROCESS:
        place = dotted((*where, "memoryMegabytes"))
        building.note(f'{place} has an effect with `isolation: "process"` only.')
    if runner.python is not None and isolation is not Isolation.PROCESS:
        building.report('needs `isolation: "process"`', *where, "python")
    megabytes = runner.memory_megabytes
    return PythonTarget(
        target=runner.target or "",
        path=building.path("." if runner.path is None else runner.path),
        isolation=isolation,
        framework_memory=runner.memory == "framework",
        memory_bytes=None if megabytes is None else megabytes * 1024 * 1024,
        python="" if runner.python is None else building.path(runner.python),
    )


def _check_avatar(building: Building, entry: AgentSettings, where: KeyPath) -> None:
    """It must be a URL, or a file inside the workspace."""
    avatar = (entry.identity.model_extra or {}).get("avatar")
    if not isinstance(avatar, str) or re.match(r"(data|https?):", avatar):
        return
    outside = avatar.startswith(("/", "\\", "~")) or ".." in re.split(r"[/\\]", avatar)
    if outside:
        message = "must be a data: or http(s): URL, or a path inside the agent's workspace"
        building.report(message, *where, "identity", "avatar")
