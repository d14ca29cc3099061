"""`agents.*`: who answers, with which model, under which instructions."""

from __future__ import annotations

import builtins
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .fields import (
    Anything,
    Count,
    PathText,
    Seconds,
    Section,
    Text,
    Whole,
    inert,
    section,
    setting,
)
from .tools import AgentTools, ContextPruning

_THINKING = Literal["off", "minimal", "low", "medium", "high", "xhigh"]


class ModelChoice(Section):
    primary: Text | None = setting(
        None,
        "The model that is asked first: `provider/model`, or an alias. "
        "Without any: `openai/gpt-5.2`.",
    )
    fallbacks: list[Text] | None = setting(
        None, "Models that are asked in order when the ones before cannot answer."
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
    streaming: bool | None = inert(
        "Ask the provider for a stream.", note="providers are always asked for a stream"
    )


class MemoryFlush(Section):
    enabled: bool | None = None
    soft_threshold_tokens: Whole | None = None
    prompt: str | None = None
    system_prompt: str | None = None


class Compaction(Section):
    mode: Literal["default", "safeguard"] | None = None
    reserve_tokens_floor: Whole | None = None
    max_history_share: Annotated[float, Field(ge=0.1, le=0.9)] | None = None
    memory_flush: MemoryFlush | None = None


class ActiveHours(Section):
    start: str | None = None
    end: str | None = None
    timezone: str | None = None


class Heartbeat(Section):
    every: str | None = None
    active_hours: ActiveHours | None = None
    model: str | None = None
    session: str | None = None
    include_reasoning: bool | None = None
    target: str | None = None
    to: str | None = None
    account_id: str | None = None
    prompt: str | None = None
    ack_max_chars: Whole | None = None


class DefaultSubagents(Section):
    max_concurrent: Count | None = None
    archive_after_minutes: Whole | None = None
    model: ModelSetting | None = None
    thinking: str | None = None


class Subagents(Section):
    allow_agents: list[str] | None = None
    model: ModelSetting | None = None
    thinking: str | None = None


class SandboxPrune(Section):
    idle_hours: Whole | None = None
    max_age_days: Whole | None = None


class Sandbox(Section):
    mode: Literal["off", "non-main", "all"] | None = None
    workspace_access: Literal["none", "ro", "rw"] | None = None
    session_tools_visibility: Literal["spawned", "all"] | None = None
    scope: Literal["session", "agent", "shared"] | None = None
    per_session: bool | None = None
    workspace_root: str | None = None
    docker: Anything | None = None
    browser: Anything | None = None
    prune: SandboxPrune | None = None


class AgentDefaults(Section):
    model: ModelSetting = section(ModelChoice, "The model; a plain string is its `primary`.")
    models: dict[str, ListedModel] = Field(
        default_factory=dict,
        description="Models by `provider/model`, to give them an alias or parameters.",
    )
    workspace: PathText | None = setting(
        None, "The default agent's directory. Left out: `workspace` in the state directory."
    )
    instructions: str = setting(
        "", "What every agent is told that has no instructions of its own.", addition=True
    )
    timeout_seconds: Seconds = setting(600, "How long a run may take; 0: as long as it likes.")
    max_concurrent: Count = setting(64, "Runs that work at the same time, over all sessions.")
    max_waiting: Whole = setting(20, "Runs that may wait in one session.", addition=True)
    max_queued: Whole = setting(
        1_000, "Runs that may wait in all sessions together.", addition=True
    )
    context_tokens: Count | None = setting(
        None, "An upper limit on every model's context window, in tokens."
    )
    image_model: ModelSetting | None = inert("The model that looks at images.")
    repo_root: str | None = inert("The repository that agents are told they work in.")
    skip_bootstrap: bool | None = inert("Do not fill a new workspace with files.")
    bootstrap_max_chars: Count | None = inert("How much of a workspace file goes into a prompt.")
    user_timezone: str | None = inert("The user's time zone.")
    time_format: Literal["auto", "12", "24"] | None = inert("How times are written.")
    envelope_timezone: str | None = inert("The time zone in message envelopes.")
    envelope_timestamp: Literal["off", "on"] | None = inert("Times in message envelopes.")
    envelope_elapsed: Literal["off", "on"] | None = inert("Elapsed time in message envelopes.")
    cli_backends: dict[str, Anything] | None = inert("Programs that answer instead of a model.")
    memory_search: Anything | None = inert("Searching an agent's notes.")
    context_pruning: ContextPruning | None = inert("Thinning out old tool results.")
    compaction: Compaction | None = inert("Summing up old history.")
    thinking_default: _THINKING | None = inert("How much models think.")
    verbose_default: Literal["off", "on", "full"] | None = inert("How much tools tell.")
    elevated_default: Literal["off", "on", "ask", "full"] | None = inert("Elevated execution.")
    block_streaming_default: Literal["off", "on"] | None = inert("Sending answers in blocks.")
    block_streaming_break: Literal["text_end", "message_end"] | None = inert("Where blocks end.")
    block_streaming_chunk: Anything | None = inert("The size of blocks.")
    block_streaming_coalesce: Anything | None = inert("Joining small blocks.")
    human_delay: Anything | None = inert("Pauses between blocks.")
    typing_interval_seconds: Count | None = inert("How often a typing indicator is sent.")
    typing_mode: str | None = inert("When a typing indicator is sent.")
    media_max_mb: Annotated[float, Field(gt=0)] | None = inert("The largest media file.")
    subagents: DefaultSubagents | None = inert("Agents started by agents.")
    heartbeat: Heartbeat | None = inert("Runs that start by themselves at intervals.")
    sandbox: Sandbox | None = inert("Running tools in a container.")


class Identity(Section):
    name: Text | None = setting(None, "What the agent calls itself; it is told so.")
    theme: Text | None = setting(None, "What the agent is like; it is told so.")
    emoji: str | None = inert("The agent's symbol in chat channels.")
    avatar: str | None = inert("The agent's picture.")


class GroupChat(Section):
    mention_patterns: list[str] | None = None
    history_limit: Whole | None = None


class AgentEntry(Section):
    id: str = setting(
        ..., "Lower-case letters, digits, `_` and `-`, at most 64; upper case is lowered."
    )
    default: bool = setting(
        False, "Answers requests that name no agent. Without any, the first in the list does."
    )
    name: Text | None = setting(None, "What people call it. Left out: `identity.name`, or the id.")
    model: ModelSetting | None = setting(
        None,
        "Its own model; a plain string is its `primary`. Own `fallbacks`, even an empty list, "
        "replace those of the defaults.",
    )
    identity: Identity = section(Identity, "Who it says it is.")
    workspace: PathText | None = setting(
        None, "Its directory. Left out: `workspace-<id>` in the state directory."
    )
    instructions: str | None = setting(
        None, "What it is told before every conversation.", addition=True
    )
    timeout_seconds: Seconds | None = setting(
        None, "How long a run may take; 0: as long as it likes.", addition=True
    )
    runner: Text = setting("native", "Which AgentRunner makes it answer.", addition=True)
    agent_dir: str | None = inert("Where the reference keeps an agent's own files.")
    skills: builtins.list[str] | None = inert("The skills it may use.")
    memory_search: Anything | None = inert("Searching its notes.")
    human_delay: Anything | None = inert("Pauses between blocks.")
    heartbeat: Heartbeat | None = inert("Runs that start by themselves at intervals.")
    group_chat: GroupChat | None = inert("How it behaves in groups.")
    subagents: Subagents | None = inert("Agents that it may start.")
    sandbox: Sandbox | None = inert("Running its tools in a container.")
    tools: AgentTools | None = inert("The tools it may use.")


class AgentsSection(Section):
    defaults: AgentDefaults = section(AgentDefaults, "What holds for every agent.")
    entries: list[AgentEntry] = Field(
        default_factory=list,
        alias="list",
        description="The agents. An empty list means one agent, `main`.",
    )
