"""`session.*` and `logging.*`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .fields import Count, Days, Hour, Minutes, PathText, Section, Text, Whole, setting

_LEVEL = Literal["silent", "fatal", "error", "warn", "info", "debug", "trace"]


class Reset(Section):
    mode: Literal["daily", "idle", "none"] | None = setting(
        None,
        "When to reset: `daily`: once a day; `idle`: after a time without messages; `none`: "
        "never. Left out: `daily`.",
    )
    at_hour: Hour | None = setting(None, "The hour of the daily reset, local time; 4 if left out.")
    idle_minutes: Minutes | None = setting(
        None, "Minutes without messages; also applied in mode `daily` when set. 60 in mode `idle`."
    )


class ResetByType(Section):
    dm: Reset | None = setting(None, "Direct conversations.")
    direct: Reset | None = setting(None, "Another spelling of `dm`, which takes precedence.")
    group: Reset | None = setting(None, "Groups and channels.")
    thread: Reset | None = setting(None, "Threads and topics.")


class SendPolicyMatch(Section):
    ours: ClassVar[bool] = True
    channel: Text | None = setting(None, "The channel, the first part of the key.")
    chat_type: Literal["direct", "dm", "group", "channel", "room", "thread"] | None = setting(
        None, "The kind of conversation; `channel` and `room` are groups, `dm` is direct."
    )
    key_prefix: Text | None = setting(
        None, "How the key begins, with `agent:<id>:` or without; case does not count."
    )
    raw_key_prefix: Text | None = setting(
        None, "The same for the whole key, which begins with `agent:<id>:`."
    )


class SendPolicyRule(Section):
    action: Literal["allow", "deny"] = setting(..., "The action for a session that matches.")
    match: SendPolicyMatch = setting(
        SendPolicyMatch, "Which sessions the rule applies to. A missing key matches all."
    )


class SendPolicy(Section):
    default: Literal["allow", "deny"] = setting("allow", "For sessions that no rule matches.")
    rules: list[SendPolicyRule] = setting(
        list,
        "The rules. A matching `deny` wins over every `allow`, in any order.",
    )


class SessionSection(Section):
    reset: Reset | None = setting(None, "When a session is reset.")
    reset_by_type: ResetByType = setting(ResetByType, "Resets by the kind of conversation.")
    reset_by_channel: dict[str, Reset] = setting(
        dict,
        "Resets by channel, the first part of the key; it takes precedence over the kind.",
    )
    idle_minutes: Minutes | None = setting(
        None, "An older spelling of `reset.idleMinutes`; alone it means mode `idle`."
    )
    store: PathText | None = setting(
        None,
        '`":memory:"` keeps sessions in memory only. Left out, or any other value: '
        "`opensoul.sqlite3` in the state directory.",
        restart=True,
        machine="store",
        free=(":memory:",),
    )
    one_off_retention_days: Days = setting(
        7,
        "How many days the session of a request without session key or user is kept; 0: forever.",
        addition=True,
    )
    one_off_max_bytes: Whole = setting(
        1024**3,
        "The most bytes of all these sessions together; the oldest are deleted first. 0: no limit.",
        addition=True,
    )
    send_policy: SendPolicy = setting(
        SendPolicy, "Which sessions accept messages; a session's own `sendPolicy` takes precedence."
    )


class LoggingSection(Section):
    level: _LEVEL = setting("info", "The least severe level that is logged.")
    console_level: _LEVEL | None = setting(None, "The same for the console. Left out: `level`.")
    console_style: Literal["pretty", "compact", "json"] = setting(
        "pretty", "The format of the console log."
    )
    file: Text | None = setting(None, "Log to this file as well, as JSON.", machine="log")
    max_file_bytes: Count = setting(
        100 * 1024 * 1024,
        "The size at which `file` is renamed to `file.1` (and that to `file.2`) and a new file "
        "is started.",
    )
    keep_files: Annotated[int, Field(ge=0, le=1_000)] = setting(
        5, "How many renamed log files are kept; 0: none.", addition=True
    )
    content: bool = setting(False, "Write the text of messages to the log.", addition=True)
