"""`agents.*`: the agents, their models and instructions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from .fields import Count, PathText, Seconds, Section, Text, Whole, section, setting
from .tools import ToolsSection


class ModelChoice(Section):
    primary: Text | None = setting(
        None,
        "The first model to call: `provider/model`, or an alias. Without any: `openai/gpt-5.2`.",
    )
    fallbacks: list[Text] | None = setting(
        None, "Models to call in order when the ones before fail."
    )


def _spelled_out(value: Any) -> Any:
    return {"primary": value} if isinstance(value, str) else value


ModelSetting = Annotated[
    ModelChoice, BeforeValidator(_spelled_out, json_schema_input_type=str | ModelChoice)
]


class ListedModel(Section):
    alias: Text | None = setting(None, "A short name for the model.")
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Parameters sent with every call of the model, under OpenAI's names.",
    )


class SystemAgent(Section):
    agent_id: Text | None = setting(
        None, "The agent for requests that name none, unless an agent is marked `default`."
    )


class AgentDefaults(Section):
    model: ModelSetting = section(ModelChoice, "The model; a plain string is its `primary`.")
    models: dict[str, ListedModel] = Field(
        default_factory=dict,
        description="Models by `provider/model`, to give them an alias or parameters.",
    )
    workspace: PathText | None = setting(
        None,
        "The default agent's directory. Left out: `workspace` in the state directory.",
        machine="directory",
    )
    instructions: str = setting(
        "",
        "The instructions of agents without their own.",
        addition=True,
        free_text=True,
    )
    timeout_seconds: Seconds = setting(600, "The longest duration of a run; 0: no limit.")
    max_concurrent: Count = setting(
        64, "How many runs may execute at the same time, over all sessions."
    )
    max_waiting: Whole = setting(20, "How many runs may wait in one session.", addition=True)
    max_queued: Whole = setting(
        1_000, "How many runs may wait in all sessions together.", addition=True
    )
    context_tokens: Count | None = setting(
        None, "An upper limit on every model's context window, in tokens."
    )
    system_agent: SystemAgent = section(SystemAgent, "The agent for requests that name none.")


class Identity(Section):
    name: Text | None = setting(
        None, "The agent's name; it is added to the instructions.", free_text=True
    )
    theme: Text | None = setting(
        None, "The agent's character; it is added to the instructions.", free_text=True
    )


class AgentSettings(Section):
    default: bool = setting(
        False,
        "Answers requests that name no agent. Without any: `agents.defaults.systemAgent`, then "
        "the first.",
    )
    name: Text | None = setting(
        None, "A name for people. Left out: `identity.name`, or the id.", free_text=True
    )
    model: ModelSetting | None = setting(
        None,
        "Its model; a plain string is the `primary`. Its `fallbacks`, even an empty list, "
        "replace those of the defaults.",
    )
    identity: Identity = section(Identity, "Its name and character, for the instructions.")
    workspace: PathText | None = setting(
        None,
        "Its directory. Left out: `workspace-<id>` in the state directory.",
        machine="directory",
    )
    instructions: str | None = setting(
        None, "The system message before every conversation.", addition=True, free_text=True
    )
    timeout_seconds: Seconds | None = setting(
        None, "The longest duration of a run; 0: no limit.", addition=True
    )
    runner: Text = setting(
        "native",
        "The AgentRunner that executes its runs.",
        addition=True,
        machine="program",
        free=("native", "echo"),
    )
    tools: ToolsSection = section(ToolsSection, "Rules for this agent, with all keys of `tools`.")


class ListedAgent(AgentSettings):
    id: str = setting(
        ..., "Lower-case letters, digits, `_` and `-`, at most 64; upper case is lowered."
    )


class NamedAgent(AgentSettings):
    id: str | None = setting(None, "The key again; it may be left out.")


class AgentsSection(Section):
    defaults: AgentDefaults = section(AgentDefaults, "Defaults for every agent.")
    listed: list[ListedAgent] = Field(
        default_factory=list,
        alias="list",
        description="The agents. Without any here and in `agents.entries`: one agent, `main`.",
    )
    entries: dict[str, NamedAgent] = Field(
        default_factory=dict,
        description="The agents by their ids, as in newer files. They replace `agents.list`.",
    )
