"""`session.*`, `commands.*` and `logging.*`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from ....domain.side_tasks import SIDE_TASK_PATTERNS
from .fields import Count, Days, Hour, Minutes, PathText, Section, Text, Whole, setting

_LEVEL = Literal["silent", "fatal", "error", "warn", "info", "debug", "trace"]


class Reset(Section):
    mode: Literal["daily", "idle", "none"] | None = None
    """When to reset: `daily`: once a day; `idle`: after a time without messages; `none`: never.
    Left out: `daily`."""
    at_hour: Hour | None = None
    """The hour of the daily reset, local time; 4 if left out."""
    idle_minutes: Minutes | None = None
    """Minutes without messages; also applied in mode `daily` when set. 60 in mode `idle`."""


class ResetByType(Section):
    dm: Reset | None = None
    """Direct conversations."""
    direct: Reset | None = None
    """Another spelling of `dm`, which takes precedence."""
    group: Reset | None = None
    """Groups and channels."""
    thread: Reset | None = None
    """Threads and topics."""


class SendPolicyMatch(Section):
    ours: ClassVar[bool] = True
    channel: Text | None = None
    """The channel, the first part of the key."""
    chat_type: Literal["direct", "dm", "group", "channel", "room", "thread"] | None = None
    """The kind of conversation; `channel` and `room` are groups, `dm` is direct."""
    key_prefix: Text | None = None
    """How the key begins, with `agent:<id>:` or without; case does not count."""
    raw_key_prefix: Text | None = None
    """The same for the whole key, which begins with `agent:<id>:`."""


class SendPolicyRule(Section):
    action: Literal["allow", "deny"]
    """The action for a session that matches."""
    match: SendPolicyMatch = setting(SendPolicyMatch)
    """Which sessions the rule applies to. A missing key matches all."""


class SendPolicy(Section):
    default: Literal["allow", "deny"] = "allow"
    """For sessions that no rule matches."""
    rules: list[SendPolicyRule] = setting(list)
    """The rules. A matching `deny` wins over every `allow`, in any order."""


class AgentToAgentMessages(Section):
    max_ping_pong_turns: Annotated[int, Field(ge=0, le=5)] = 5
    """How many messages between sessions may lead to one another, after the first."""


_SECRETS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


def _without_secret(name: str) -> str:
    if name.lower() in _SECRETS:
        raise ValueError("must not be a header with a secret: session keys are logged")
    return name


HeaderName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=64),
    AfterValidator(_without_secret),
]


class BindSection(Section):
    ours: ClassVar[bool] = True
    headers: list[HeaderName] = setting(
        ["X-OpenWebUI-Chat-Id", "X-LibreChat-Conversation-Id"], addition=True
    )
    """Request headers with the id of a conversation, which gets a session of its own. The first one
    present counts; `[]`: none."""
    user: Literal["session", "off"] = setting("session", addition=True)
    """`session`: requests with the same `user` share a session; `off`: they do not."""
    temporary: list[Text] = setting(["temporary:", "local:"], addition=True)
    """How the ids of conversations begin that the client does not keep. Their sessions are
    forgotten behind each answer."""


class SessionSection(Section):
    reset: Reset | None = None
    """When a session is reset."""
    reset_by_type: ResetByType = setting(ResetByType)
    """Resets by the kind of conversation."""
    reset_by_channel: dict[str, Reset] = setting(dict)
    """Resets by channel, the first part of the key; it takes precedence over the kind."""
    idle_minutes: Minutes | None = None
    """An older spelling of `reset.idleMinutes`; alone it means mode `idle`."""
    store: PathText | None = setting(None, restart=True, machine="store", free=(":memory:",))
    """`":memory:"` keeps sessions in memory only. Left out, or any other value: `opensoul.sqlite3`
    in the state directory."""
    one_off_retention_days: Days = setting(7, addition=True)
    """How many days the session of a single request, and a stored response, is kept; 0: forever."""
    one_off_max_bytes: Whole = setting(1024**3, addition=True)
    """The most bytes of all these sessions together; the oldest are deleted first. 0: no limit."""
    bind: BindSection = setting(BindSection, addition=True)
    """How a chat completion without a session key finds its session."""
    side_task_patterns: list[Text] = setting(
        list(SIDE_TASK_PATTERNS), addition=True, free_text=True
    )
    """The beginnings of messages by which chat clients request titles, tags and the like for a
    conversation. Such a request has neither session nor tools; `[]`: none is recognised."""
    send_policy: SendPolicy = setting(SendPolicy)
    """Which sessions accept messages; a session's own `sendPolicy` takes precedence."""
    agent_to_agent: AgentToAgentMessages = setting(AgentToAgentMessages)
    """Messages that agents send to other sessions with `sessions_send`."""


class CommandsSection(Section):
    text: bool = True
    """Messages such as `/status` are commands, which the Gateway answers itself; `docs/commands.md`
    lists them. `false`: they are said to the model."""


class LoggingSection(Section):
    level: _LEVEL = "info"
    """The least severe level that is logged."""
    console_level: _LEVEL | None = None
    """The same for the console. Left out: `level`."""
    console_style: Literal["pretty", "compact", "json"] = "pretty"
    """The format of the console log."""
    file: Text | None = setting(None, machine="log")
    """Log to this file as well, as JSON."""
    max_file_bytes: Count = 100 * 1024 * 1024
    """The size at which `file` is renamed to `file.1` (and that to `file.2`) and a new file is
    started."""
    keep_files: Annotated[int, Field(ge=0, le=1_000)] = setting(5, addition=True)
    """How many renamed log files are kept; 0: none."""
    content: bool = setting(False, addition=True)
    """Write the text of messages to the log."""
