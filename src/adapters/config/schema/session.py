"""`session.*` and `logging.*`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .fields import Days, Hour, Minutes, PathText, Section, Text, Whole, inert, section, setting

_LEVEL = Literal["silent", "fatal", "error", "warn", "info", "debug", "trace"]


class Reset(Section):
    mode: Literal["daily", "idle"] | None = setting(
        None, "`daily`: start over once a day; `idle`: after a silence. Left out: `daily`."
    )
    at_hour: Hour | None = setting(None, "The hour of the daily reset, local time; 4 if left out.")
    idle_minutes: Minutes | None = setting(
        None, "The silence, also counted in mode `daily` when given; 60 if left out in mode `idle`."
    )


class ResetByType(Section):
    dm: Reset | None = setting(None, "Conversations of two.")
    group: Reset | None = setting(None, "Groups and channels.")
    thread: Reset | None = setting(None, "Threads and topics.")


class SendPolicyMatch(Section):
    channel: Text | None = setting(None, "The channel, the first part of the key.")
    chat_type: Literal["direct", "dm", "group", "channel", "room", "thread"] | None = setting(
        None, "The kind of conversation; `channel` and `room` are groups, `dm` is direct."
    )
    key_prefix: Text | None = setting(
        None, "How the key begins, with `agent:<id>:` or without; case does not count."
    )


class SendPolicyRule(Section):
    action: Literal["allow", "deny"] = setting(..., "What becomes of a session that matches.")
    match: SendPolicyMatch = section(
        SendPolicyMatch, "Which sessions it is about. What is left out matches all."
    )


class SendPolicy(Section):
    default: Literal["allow", "deny"] = setting("allow", "For sessions that no rule matches.")
    rules: list[SendPolicyRule] = Field(
        default_factory=list,
        description="The rules. Of those that match one that denies wins, wherever it stands.",
    )


class PingPong(Section):
    max_ping_pong_turns: Annotated[int, Field(ge=0, le=5)] | None = None


class SessionSection(Section):
    reset: Reset | None = setting(None, "When a session starts over.")
    reset_by_type: ResetByType = section(ResetByType, "The same per kind of conversation.")
    reset_by_channel: dict[str, Reset] = Field(
        default_factory=dict,
        description="The same per channel, the first part of the key; it wins over the kind.",
    )
    idle_minutes: Minutes | None = setting(
        None, "An older spelling of `reset.idleMinutes`; alone it means mode `idle`."
    )
    store: PathText | None = setting(
        None,
        '`":memory:"` keeps sessions in memory only. Left out, or any other value: '
        "`opensoul.sqlite3` in the state directory.",
        restart=True,
    )
    one_off_retention_days: Days = setting(
        7,
        "How long the session of a request without session key or user is kept; 0: for ever.",
        addition=True,
    )
    one_off_max_bytes: Whole = setting(
        1024**3,
        "The most bytes that these sessions take together; beyond it the oldest are deleted. "
        "0: no bound.",
        addition=True,
    )
    send_policy: SendPolicy = section(
        SendPolicy, "Which sessions may be written to; a session's own `sendPolicy` wins."
    )
    scope: Literal["per-sender", "global"] | None = inert("Who shares a session.")
    dm_scope: Literal["main", "per-peer", "per-channel-peer", "per-account-channel-peer"] | None = (
        inert("Which direct messages share a session.")
    )
    identity_links: dict[str, list[str]] | None = inert("Names of one person in many channels.")
    reset_triggers: list[str] | None = inert("Messages that start a session over.")
    typing_interval_seconds: Whole | None = inert("How often a typing indicator is sent.")
    typing_mode: str | None = inert("When a typing indicator is sent.")
    main_key: str | None = inert("The name of the main session.", note="it is always `main`")
    agent_to_agent: PingPong | None = inert("Agents that talk to one another.")


class LoggingSection(Section):
    level: _LEVEL = setting("info", "The least severe level that is logged.")
    console_level: _LEVEL | None = setting(None, "The same for the console. Left out: `level`.")
    console_style: Literal["pretty", "compact", "json"] = setting("pretty", "How it looks.")
    file: Text | None = setting(None, "Log to this file as well, as JSON.")
    content: bool = setting(False, "Write what people and agents say into the log.", addition=True)
    redact_sensitive: Literal["off", "tools"] | None = inert(
        "Hide secrets in the log.", note="secrets never reach the log"
    )
    redact_patterns: list[str] | None = inert(
        "What counts as a secret in the log.", note="content is logged only if `content` is true"
    )
