"""Agents, and the directory that finds the one a request means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType

from .errors import UnknownAgent
from .models import ModelTarget
from .tools import SandboxPolicy, ToolPolicy

DEFAULT_AGENT_ID = "main"
DEFAULT_RESULT_CHARS = 40_000


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What one Run may use before its model has to answer without tools; None: no limit."""

    steps: int = 50
    """Model calls that lead to tool calls."""
    tool_calls: int = 200
    output_tokens: int | None = None
    seconds: float | None = None
    """Without waiting for approvals."""
    cost: float | None = None
    """US dollars, of the models whose price is known."""
    own_calls: int | None = None
    """Calls of tools that the Run's client does not run itself, where the client sets a limit."""


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """How a summary replaces the older part of a history that fills the window."""

    enabled: bool = True
    in_parts: bool = True
    """An older part that is too long for one call is summarised in several, one after the other."""
    reserve_tokens: int = 20_000
    """Tokens of the window that stay free, but at most a quarter of it."""
    keep_recent_tokens: int = 20_000
    """Tokens of the newest messages that stay whole, at most."""
    max_history_share: float = 0.5
    """The same as a share of the room for history."""


@dataclass(frozen=True, slots=True)
class PruningSettings:
    """What a model gets of old results of tools. Ratios are of its window; the others are numbers
    of characters."""

    ttl: float
    """Seconds without a turn after which the cache of a provider has expired."""
    keep_last_assistants: int = 3
    soft_trim_ratio: float = 0.3
    hard_clear_ratio: float = 0.5
    min_prunable_chars: int = 50_000
    allow: tuple[str, ...] = ()
    """Patterns of names of tools; empty: all."""
    deny: tuple[str, ...] = ()
    soft_max_chars: int = 4_000
    soft_head_chars: int = 1_500
    soft_tail_chars: int = 1_500
    hard_clear: bool = True
    placeholder: str = "[Old tool result content cleared]"


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """What of its workspace and its skills an agent is shown in the system prompt."""

    file_chars: int = 20_000
    """Characters of one file, from which on it is shortened."""
    all_file_chars: int = 60_000
    """Characters of all files together."""
    skills: tuple[str, ...] | None = None
    """The names of the skills that are listed; None: all."""
    time_zone: str = ""
    """A name of the IANA database; empty: the time zone of the system."""


@dataclass(frozen=True, slots=True)
class SubagentRules:
    """Which sub-agents the runs of an Agent may start."""

    max_depth: int = 1
    """How deep sub-agents may be nested."""
    max_children: int = 5
    """Of one run, at the same time."""
    timeout: float | None = None
    """Seconds that a sub-agent may take; None: as long as the runs of its agent."""
    other_agents: tuple[str, ...] = ()
    """The ids of other agents that may be started; `*`: every agent."""
    model: str = ""
    """`provider/model` of sub-agents; empty: that of their agent."""
    thinking: str = ""

    def may_start(self, agent_id: str) -> bool:
        """Whether a sub-agent may be of that other agent."""
        return "*" in self.other_agents or agent_id in self.other_agents


class Visibility(StrEnum):
    """Which sessions the tools of a run reach, of those that its principal may see."""

    SELF = "self"
    """Only its own."""
    TREE = "tree"
    """Also those of its sub-agents."""
    AGENT = "agent"
    """Also the other ones of its agent."""
    ALL = "all"
    """Also those of other agents, where `SessionAccess.other_agents` names both agents."""


@dataclass(frozen=True, slots=True)
class SessionAccess:
    """Which sessions the tools of an Agent reach. `other_agents`: patterns of agent ids."""

    visibility: Visibility = Visibility.TREE
    other_agents: tuple[str, ...] = ()

    def connects(self, one: str, other: str) -> bool:
        """Whether a run of an agent may reach the sessions of another one."""
        return all(
            any(fnmatchcase(agent_id, pattern) for pattern in self.other_agents)
            for agent_id in (one, other)
        )


class Isolation(StrEnum):
    """Where the code of a Python agent runs."""

    THREAD = "thread"
    """In a thread and an event loop of its own."""
    INLINE = "inline"
    """On the Gateway's event loop, which code that blocks stops."""
    PROCESS = "process"
    """In a process of its own."""


def is_target(text: str) -> bool:
    """Whether it is `module:attribute`, each with dots."""
    module, colon, attribute = text.partition(":")
    names = (*module.split("."), *attribute.split("."))
    return bool(colon) and all(name.isidentifier() for name in names)


@dataclass(frozen=True, slots=True)
class PythonTarget:
    """An agent that is written in Python. `target`: `module:attribute`."""

    target: str
    path: str = ""
    """The directory that the module is imported from, before all others; empty: none."""
    isolation: Isolation = Isolation.THREAD
    framework_memory: bool = False
    """The framework keeps the history of the Session, which the target gets no messages of."""
    memory_bytes: int | None = None
    """The most memory of the process, with `Isolation.PROCESS`; None: no limit."""
    python: str = ""
    """The interpreter of the process, with `Isolation.PROCESS`; empty: that of the Gateway."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A named configuration, complete: a Run that holds it needs nothing else from the settings."""

    id: str
    name: str
    instructions: str = ""
    models: tuple[ModelTarget, ...] = ()
    """The primary model and its fallbacks, in the order they are tried."""
    runner: str = "native"
    """Which AgentRunner makes it answer."""
    python: PythonTarget | None = None
    """What the runner `python` calls."""
    workspace: str = ""
    timeout: float | None = 600.0
    """Seconds a Run may take once it has started; None: no limit."""
    limits: RunLimits = RunLimits()
    max_result_chars: int = DEFAULT_RESULT_CHARS
    """The length from which on a tool's result is shortened for the model."""
    compaction: CompactionSettings = CompactionSettings()
    pruning: PruningSettings | None = None
    tools: ToolPolicy = field(default_factory=ToolPolicy)
    """Which tools it may call."""
    sandbox: SandboxPolicy = field(default_factory=SandboxPolicy)
    """For its commands, and the servers of tools that it uses."""
    prompt: PromptSettings = PromptSettings()
    subagents: SubagentRules = SubagentRules()
    session_access: SessionAccess = SessionAccess()
    side_task_models: tuple[ModelTarget, ...] = ()
    """The models of side tasks, as in `models`; empty: the same ones."""


class AgentDirectory:
    """The agents of one configuration generation.

    Raises ValueError for two agents of one id, or a default that is not among them.
    """

    def __init__(self, agents: Iterable[Agent], default_id: str) -> None:
        by_id: dict[str, Agent] = {}
        for agent in agents:
            if agent.id in by_id:
                raise ValueError(f"two agents have the id {agent.id!r}")
            by_id[agent.id] = agent
        if default_id not in by_id:
            raise ValueError(f"the default agent {default_id!r} is not configured")
        self._by_id: Mapping[str, Agent] = MappingProxyType(by_id)
        self.default = by_id[default_id]

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, agent_id: str) -> Agent | None:
        """The agent of that id, whatever its case; None when there is none."""
        return self._by_id.get(agent_id.strip().lower())

    def find(self, agent_id: str, *, param: str) -> Agent:
        """The agent of that id. Raises UnknownAgent naming `param`, and what there is instead."""
        agent = self.get(agent_id)
        if agent is None:
            known = ", ".join(sorted(self._by_id))
            raise UnknownAgent(f"No agent {agent_id!r} here. Agents: {known}.", param=param)
        return agent

    def named_by_model(self, model: str) -> Agent | None:
        """The agent that a request's `model` field names; None where it names none (`opensoul`).

        Raises UnknownAgent. Spellings: `opensoul:<id>`, `opensoul/<id>`, the same with
        `openclaw`, `agent:<id>`, and a bare agent id.
        """
        spelled = model.strip()
        lowered = spelled.lower()
        if lowered in _NAMES_NO_AGENT:
            return None
        for prefix in _AGENT_PREFIXES:
            if lowered.startswith(prefix):
                return self.find(spelled[len(prefix) :], param="model")
        return self.find(spelled, param="model")


_PRODUCTS = ("opensoul", "openclaw")
_NAMES_NO_AGENT = frozenset(
    ["", *_PRODUCTS, *(f"{product}{sep}default" for product in _PRODUCTS for sep in "/:")]
)
_AGENT_PREFIXES = (
    *(f"{product}{sep}" for product in _PRODUCTS for sep in "/:"),
    "agent:",
)
