"""`agents.*`: the agents, their models and instructions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from .fields import (
    Count,
    PathText,
    Seconds,
    Section,
    SomeDollars,
    SomeSeconds,
    Text,
    Whole,
    setting,
)
from .sandbox import AgentSandbox
from .tools import ToolsSection


class ModelChoice(Section):
    primary: Text | None = None
    """The first model to call: `provider/model`, or an alias. Without any: `openai/gpt-5.2`."""
    fallbacks: list[Text] | None = None
    """Models to call in order when the ones before fail."""


def _spelled_out(value: Any) -> Any:
    return {"primary": value} if isinstance(value, str) else value


ModelSetting = Annotated[
    ModelChoice, BeforeValidator(_spelled_out, json_schema_input_type=str | ModelChoice)
]


class ListedModel(Section):
    alias: Text | None = None
    """A short name for the model."""
    params: dict[str, Any] = setting(dict)
    """Parameters sent with every call of the model, under OpenAI's names."""


class RunLimitSettings(Section):
    ours = True

    max_steps: Count | None = setting(None, addition=True)
    """Model calls that lead to tool calls. Left out: 50."""
    max_tool_calls: Count | None = setting(None, addition=True)
    """Tool calls. Left out: 200."""
    max_output_tokens: Count | None = setting(None, addition=True)
    """Tokens of all answers, thinking included. Left out: no limit."""
    max_seconds: SomeSeconds | None = setting(None, addition=True)
    """Seconds of model and tool calls, without waiting for approvals. A tool or a model call that
    is running then is stopped. Left out: no limit but `timeoutSeconds`, which ends the run at
    once."""
    max_cost: SomeDollars | None = setting(None, addition=True)
    """US dollars for model calls, by the `cost` of the models; models without `cost` count nothing.
    Left out: no limit."""


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class CompactionSection(Section):
    mode: Literal["safeguard", "default", "off"] = "safeguard"
    """`safeguard`: the older part of a history that fills the window is replaced by a summary; one
    that is too long for one call is summarised in several. `default`: in one call, and what is too
    long is left out. `off`: the oldest messages are left out, without a summary."""
    reserve_tokens: Count | None = None
    """Tokens of the window that stay free. Left out: `reserveTokensFloor`."""
    reserve_tokens_floor: Whole = 20_000
    """At least as many stay free, but no more than a quarter of the window."""
    keep_recent_tokens: Count = setting(20_000, addition=True)
    """Tokens of the newest messages that stay whole, at most."""
    max_history_share: Annotated[float, Field(ge=0.1, le=0.9)] = 0.5
    """The same as a share of the room that the window has for history."""


class PruningTools(Section):
    allow: list[Text] = setting(list)
    """Tools whose results may be pruned; `*` stands for any characters. Empty: all."""
    deny: list[Text] = setting(list)
    """Tools whose results are never pruned."""


class SoftTrim(Section):
    max_chars: Count = 4_000
    """A result of more characters is shortened."""
    head_chars: Whole = 1_500
    """Characters that stay of its beginning."""
    tail_chars: Whole = 1_500
    """Characters that stay of its end."""


class HardClear(Section):
    enabled: bool = True
    """Whether whole results are left out."""
    placeholder: Text = setting("[Old tool result content cleared]", free_text=True)
    """What the model gets in their place."""


class PruningSection(Section):
    mode: Literal["off", "cache-ttl"] = "off"
    """`cache-ttl`: when the provider's cache of a conversation has expired, its old tool results
    are shortened or left out in what the model gets. What is stored stays whole."""
    ttl: Text = "5m"
    """After how long without a turn the cache has expired: a number and `s`, `m`, `h` or `d`;
    without a unit: minutes."""
    keep_last_assistants: Whole = 3
    """The results after the newest answers, as many, stay whole."""
    soft_trim_ratio: Share = 0.3
    """From this share of the window on, long results are shortened."""
    hard_clear_ratio: Share = 0.5
    """From this share of the window on, the oldest results are left out until less is used."""
    min_prunable_tool_chars: Whole = 50_000
    """Results are left out only where there are as many characters of them."""
    tools: PruningTools = setting(PruningTools)
    """Which tools."""
    soft_trim: SoftTrim = setting(SoftTrim)
    """How results are shortened."""
    hard_clear: HardClear = setting(HardClear)
    """How results are left out."""


class SubagentSettings(Section):
    max_spawn_depth: Annotated[int, Field(ge=1, le=5)] | None = None
    """How deep sub-agents may be nested. Left out: 1, which keeps sub-agents from starting
    others."""
    max_children_per_agent: Annotated[int, Field(ge=1, le=20)] | None = None
    """How many sub-agents of one run may work at the same time. Left out: 5."""
    allow_agents: list[Text] | None = None
    """Other agents that sub-agents may be of; `*`: every agent. Left out: none."""
    model: ModelSetting | None = None
    """The model of sub-agents. Left out: that of their agent, which the fallbacks come from."""
    thinking: Text | None = None
    """How much the model of sub-agents thinks."""
    run_timeout_seconds: Seconds | None = None
    """The longest duration of a sub-agent's run, if it is shorter than that of its agent; 0: that
    of its agent."""


class SharedSubagentSettings(SubagentSettings):
    max_concurrent: Count = 8
    """How many runs of sub-agents may execute at the same time, at each depth. They do not count
    towards `agents.defaults.maxConcurrent`."""


class SystemAgent(Section):
    agent_id: Text | None = None
    """The agent for requests that name none, unless an agent is marked `default`."""


class AgentDefaults(Section):
    model: ModelSetting = setting(ModelChoice)
    """The model; a plain string is its `primary`."""
    side_task_model: ModelSetting | None = setting(None, addition=True)
    """The model for titles, tags and the like, which chat clients ask for beside a conversation.
    Left out: that of the agent."""
    models: dict[str, ListedModel] = setting(dict)
    """Models by `provider/model`, to give them an alias or parameters."""
    workspace: PathText | None = setting(None, machine="directory")
    """The default agent's directory. Left out: `workspace` in the state directory."""
    instructions: str = setting("", addition=True, free_text=True)
    """The instructions of agents without their own."""
    bootstrap_max_chars: Count = 20_000
    """Characters of one workspace file in the system prompt; of a longer one, the middle is left
    out."""
    bootstrap_total_max_chars: Count = 60_000
    """Characters of all workspace files together in the system prompt."""
    skills: list[Text] | None = None
    """The skills that the system prompts list, by name. Left out: all."""
    user_timezone: Text | None = None
    """The time zone for the date in system prompts, such as `Europe/Berlin`. Left out: that of the
    system."""
    timeout_seconds: Seconds = 600
    """The longest duration of a run; 0: no limit."""
    limits: RunLimitSettings = setting(RunLimitSettings, addition=True)
    """What one run may use before its model has to answer without tools. The limits are checked
    between model calls."""
    sandbox: AgentSandbox = setting(AgentSandbox)
    """What commands and MCP servers can reach of this machine."""
    max_concurrent: Count = 64
    """How many runs may execute at the same time, over all sessions."""
    max_waiting: Whole = setting(20, addition=True)
    """How many runs may wait in one session."""
    max_queued: Whole = setting(1_000, addition=True)
    """How many runs may wait in all sessions together."""
    context_tokens: Count | None = None
    """An upper limit on every model's context window, in tokens."""
    thinking_default: Text | None = None
    """How much models with `reasoning` think in sessions without a level of their own: `off`,
    `minimal`, `low`, `medium`, `high` or `xhigh`. Left out: as the provider does by default."""
    compaction: CompactionSection = setting(CompactionSection)
    """What happens to a history that fills the model's window."""
    context_pruning: PruningSection = setting(PruningSection)
    """What a model gets of old tool results."""
    subagents: SharedSubagentSettings = setting(SharedSubagentSettings)
    """Sub-agents, which the tool `sessions_spawn` starts."""
    system_agent: SystemAgent = setting(SystemAgent)
    """The agent for requests that name none."""


class Identity(Section):
    name: Text | None = setting(None, free_text=True)
    """The agent's name; it is added to the instructions."""
    theme: Text | None = setting(None, free_text=True)
    """The agent's character; it is added to the instructions."""


class RunnerSection(Section):
    ours: ClassVar[bool] = True
    use: Text = setting("native", addition=True, machine="program", free=("native", "echo"))
    """The AgentRunner that executes its runs: `native`, `echo`, `python`, or an installed one."""
    target: Text | None = setting(None, addition=True, machine="program")
    """With `python`: the agent, as `module:attribute`."""
    path: PathText | None = setting(None, addition=True, machine="program")
    """With `python`: the directory that its module is imported from. Left out: that of the
    configuration file."""
    isolation: Literal["thread", "inline", "process"] = setting("thread", addition=True)
    """With `python`: where the code runs. `thread`: in the thread of its package; `process`: in a
    process of its own; `inline`: on the Gateway's event loop, for asynchronous code that never
    blocks."""
    memory: Literal["gateway", "framework"] = setting("gateway", addition=True)
    """With `python`: who keeps the history of a session."""
    memory_megabytes: Count | None = setting(None, addition=True)
    """With `process`: the most memory of the process. Left out: no limit."""
    python: PathText | None = setting(None, addition=True, machine="program")
    """With `process`: the Python interpreter that runs the agent, as of an environment of its own
    in which `opensoul` is installed too. Left out: that of the Gateway."""


def _runner_spelled_out(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


RunnerSetting = Annotated[
    RunnerSection,
    BeforeValidator(_runner_spelled_out, json_schema_input_type=str | RunnerSection),
]


class AgentSettings(Section):
    default: bool = False
    """Answers requests that name no agent. Without any: `agents.defaults.systemAgent`, then the
    first."""
    name: Text | None = setting(None, free_text=True)
    """A name for people. Left out: `identity.name`, or the id."""
    model: ModelSetting | None = None
    """Its model; a plain string is the `primary`. Its `fallbacks`, even an empty list, replace
    those of the defaults."""
    identity: Identity = setting(Identity)
    """Its name and character, for the instructions."""
    workspace: PathText | None = setting(None, machine="directory")
    """Its directory. Left out: `workspace-<id>` in the state directory."""
    instructions: str | None = setting(None, addition=True, free_text=True)
    """The system message before every conversation."""
    skills: list[Text] | None = None
    """The skills that its system prompt lists, in place of those of the defaults; `[]`: none."""
    thinking_default: Text | None = None
    """How much its models think, in place of the defaults' level."""
    timeout_seconds: Seconds | None = setting(None, addition=True)
    """The longest duration of a run; 0: no limit."""
    limits: RunLimitSettings = setting(RunLimitSettings, addition=True)
    """Limits of its runs; each key replaces that of the defaults."""
    sandbox: AgentSandbox = setting(AgentSandbox)
    """Its sandbox; each key replaces that of the defaults."""
    runner: RunnerSetting = setting(
        RunnerSection, addition=True, machine="program", free=("native", "echo")
    )
    """What executes its runs; a plain string is its `use`."""
    subagents: SubagentSettings = setting(SubagentSettings)
    """The sub-agents of its runs; each key replaces that of the defaults."""
    tools: ToolsSection = setting(ToolsSection)
    """Rules for this agent, with all keys of `tools`."""


class ListedAgent(AgentSettings):
    id: str
    """Lower-case letters, digits, `_` and `-`, at most 64; upper case is lowered."""


class NamedAgent(AgentSettings):
    id: str | None = None
    """The key again; it may be left out."""


class AgentsSection(Section):
    defaults: AgentDefaults = setting(AgentDefaults)
    """Defaults for every agent."""
    listed: list[ListedAgent] = Field(default_factory=list, alias="list")
    """The agents. Without any here and in `agents.entries`: one agent, `main`."""
    entries: dict[str, NamedAgent] = setting(dict)
    """The agents by their ids, as in newer files. They replace `agents.list`."""
