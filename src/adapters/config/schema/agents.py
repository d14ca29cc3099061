"""`agents.*`: the agents, their models and instructions."""

from __future__ import annotations

from typing import Annotated, Any

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
    """Seconds of model and tool calls, without waiting for approvals. A tool that is running then
    is stopped. Left out: no limit but `timeoutSeconds`, which ends the run at once."""
    max_cost: SomeDollars | None = setting(None, addition=True)
    """US dollars for model calls, by the `cost` of the models; models without `cost` count nothing.
    Left out: no limit."""


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
    models: dict[str, ListedModel] = setting(dict)
    """Models by `provider/model`, to give them an alias or parameters."""
    workspace: PathText | None = setting(None, machine="directory")
    """The default agent's directory. Left out: `workspace` in the state directory."""
    instructions: str = setting("", addition=True, free_text=True)
    """The instructions of agents without their own."""
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
    subagents: SharedSubagentSettings = setting(SharedSubagentSettings)
    """Sub-agents, which the tool `sessions_spawn` starts."""
    system_agent: SystemAgent = setting(SystemAgent)
    """The agent for requests that name none."""


class Identity(Section):
    name: Text | None = setting(None, free_text=True)
    """The agent's name; it is added to the instructions."""
    theme: Text | None = setting(None, free_text=True)
    """The agent's character; it is added to the instructions."""


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
    thinking_default: Text | None = None
    """How much its models think, in place of the defaults' level."""
    timeout_seconds: Seconds | None = setting(None, addition=True)
    """The longest duration of a run; 0: no limit."""
    limits: RunLimitSettings = setting(RunLimitSettings, addition=True)
    """Limits of its runs; each key replaces that of the defaults."""
    sandbox: AgentSandbox = setting(AgentSandbox)
    """Its sandbox; each key replaces that of the defaults."""
    runner: Text = setting("native", addition=True, machine="program", free=("native", "echo"))
    """The AgentRunner that executes its runs."""
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
