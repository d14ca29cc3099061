"""Whole families of keys that are accepted without an effect, and the file's own keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from .fields import Anything, Count, Section, Whole, inert, setting, silent


class ShellEnv(Section):
    enabled: bool | None = None
    timeout_ms: Count | None = None


class EnvSection(Section):
    """Besides its fields, every other key is the name of a variable."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)

    vars: dict[str, str] = Field(
        default_factory=dict,
        description="Variables for `${NAME}`, used where the process has none of that name. "
        "They may as well stand in `env` itself.",
        json_schema_extra={"x-secret": True},
        repr=False,
    )
    shell_env: ShellEnv | None = inert("Taking variables from a login shell.")


class Meta(Section):
    last_touched_version: str | None = None
    last_touched_at: str | None = None


class Peer(Section):
    kind: Literal["dm", "group", "channel"] = setting(..., "")
    id: str = setting(..., "")


class BindingMatch(Section):
    channel: str = setting(..., "")
    account_id: str | None = None
    peer: Peer | None = None
    guild_id: str | None = None
    team_id: str | None = None


class BindingEntry(Section):
    agent_id: str = setting(..., "")
    match: BindingMatch = setting(..., "")


class Queue(Section):
    mode: str | None = None
    by_channel: dict[str, str] | None = None
    debounce_ms: Whole | None = None
    debounce_ms_by_channel: dict[str, Whole] | None = None
    cap: Count | None = None
    drop: Literal["old", "new", "summarize"] | None = None


class Inbound(Section):
    debounce_ms: Whole | None = None
    by_channel: dict[str, Whole] | None = None


class Messages(Section):
    message_prefix: str | None = None
    response_prefix: str | None = None
    group_chat: Anything | None = None
    queue: Queue | None = None
    inbound: Inbound | None = None
    ack_reaction: str | None = None
    ack_reaction_scope: (
        Literal["group-mentions", "group-all", "direct", "all", "off", "none"] | None
    ) = None
    remove_ack_after_reply: bool | None = None
    tts: Anything | None = None


class Commands(Section):
    native: bool | Literal["auto"] | None = None
    native_skills: bool | Literal["auto"] | None = None
    text: bool | None = None
    bash: bool | None = None
    bash_foreground_ms: Annotated[int, Field(ge=0, le=30_000)] | None = None
    config: bool | None = None
    debug: bool | None = None
    restart: bool | None = None
    use_access_groups: bool | None = None
    owner_allow_from: list[str | int] | None = None


class Cron(Section):
    enabled: bool | None = None
    store: str | None = None
    max_concurrent_runs: Count | None = None


class Hooks(Section):
    enabled: bool | None = None
    path: str | None = None
    token: str | None = setting(None, "", secret=True)
    max_body_bytes: Count | None = None
    presets: list[str] | None = None
    transforms_dir: str | None = None
    mappings: list[Anything] | None = None
    gmail: Anything | None = None
    internal: Anything | None = None


class AuthProfile(Section):
    provider: str = setting(..., "")
    mode: Literal["api_key", "oauth", "token"] = setting(..., "")
    email: str | None = None


class Cooldowns(Section):
    billing_backoff_hours: Annotated[float, Field(gt=0)] | None = None
    billing_backoff_hours_by_provider: dict[str, float] | None = None
    billing_max_hours: Annotated[float, Field(gt=0)] | None = None
    failure_window_hours: Annotated[float, Field(gt=0)] | None = None


class AuthProfiles(Section):
    profiles: dict[str, AuthProfile] | None = None
    order: dict[str, list[str]] | None = None
    cooldowns: Cooldowns | None = None


class Families(Section):
    """What the root has besides the sections with an effect."""

    schema_url: str | None = Field(
        default=None,
        alias="$schema",
        description="Where an editor finds the JSON schema (`opensoul config schema`).",
        json_schema_extra={"x-effect": "silent", "x-addition": True},
    )
    meta: Meta | None = silent("Who wrote the file last.")
    bindings: list[BindingEntry] | None = inert("Which agent answers which chat channel.")
    messages: Messages | None = inert("How messages are queued and decorated.")
    commands: Commands | None = inert("Commands in messages.")
    cron: Cron | None = inert("Runs at set times.")
    hooks: Hooks | None = inert("Runs that other programs start.")
    auth: AuthProfiles | None = inert("Several credentials for one provider.")
    skills: Anything | None = inert("Skills.")
    plugins: Anything | None = inert("Plugins.")
    memory: Anything | None = inert("Long-term memory.")
    diagnostics: Anything | None = inert("Diagnostics.")
    ui: Anything | None = inert("The looks of user interfaces.")
    channels: Anything | None = inert("Chat channels.")
    web: Anything | None = inert("The web chat channel.")
    talk: Anything | None = inert("Voice.")
    browser: Anything | None = inert("The browser that agents drive.")
    canvas_host: Anything | None = inert("Pages that agents draw.")
    discovery: Anything | None = inert("Finding Gateways in the local network.")
    node_host: Anything | None = inert("Serving as a paired device.")
    media: Anything | None = inert("Media files.")
    audio: Anything | None = inert("Sound.")
    approvals: Anything | None = inert("Where approvals are asked for.")
    broadcast: dict[str, Any] | None = inert("One message for several agents.")
    update: Anything | None = inert("Updating the program.")
    wizard: Anything | None = inert("What the setup dialogue remembers.")
