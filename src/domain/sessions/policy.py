"""Whether a Session may be written to: rules of the configuration, and the Session's own word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from ..errors import SendBlocked
from ..side_tasks import SIDE_TASK_PATTERNS
from .binding import BindSettings
from .keys import SessionKey

UNREADABLE = "unreadable"
"""A Session's own setting where a store has lost it: it may have been `deny`."""


@dataclass(frozen=True, slots=True)
class SendRule:
    """Allows or denies Sessions. What is None matches everything.

    `chat_type`: direct, group or thread; `key_prefix`: how the key begins, with or without
    `agent:<id>:`; `raw_key_prefix`: how the whole key begins.
    """

    allow: bool
    channel: str | None = None
    chat_type: str | None = None
    key_prefix: str | None = None
    raw_key_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class SendPolicy:
    rules: Sequence[SendRule] = ()
    default_allow: bool = True


def check_send(key: SessionKey, policy: SendPolicy, own: object = None) -> None:
    """Raises SendBlocked. `own`: the Session's own setting, `allow` or `deny`, which wins; any
    other than None denies.

    Of the rules that match one that denies wins, wherever it stands.
    """
    if own is not None and own not in ("allow", "deny"):
        raise SendBlocked(
            f"send blocked: the sendPolicy of {key} cannot be read in the session store. Set it "
            'anew with sessions.patch: "allow", "deny", or null for the configured rules.',
            param="sessionKey",
        )
    if own is not None:
        allowed = own == "allow"
    else:
        matching = [rule.allow for rule in policy.rules if _matches(rule, key)]
        allowed = all(matching) if matching else policy.default_allow
    if not allowed:
        raise SendBlocked(f"send blocked by session policy: {key}", param="sessionKey")


def _matches(rule: SendRule, key: SessionKey) -> bool:
    rest = key.rest.lower()
    if rule.channel is not None and rest.partition(":")[0] != rule.channel.lower():
        return False
    if rule.chat_type is not None and _chat_type(rest) != rule.chat_type.lower():
        return False
    whole = str(key).lower()
    if not whole.startswith((rule.raw_key_prefix or "").lower()):
        return False
    prefix = (rule.key_prefix or "").lower()
    return rest.startswith(prefix) or whole.startswith(prefix)


def _chat_type(rest: str) -> str:
    parts = rest.split(":")[:-1]
    if "thread" in parts or "topic" in parts:
        return "thread"
    return "group" if "group" in parts or "channel" in parts else "direct"


class ResetMode(StrEnum):
    DAILY = "daily"
    IDLE = "idle"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ResetRule:
    """When a Session starts over. `at_hour` is local time; `idle` is in seconds.

    In mode `daily` an `idle` limit counts as well, whichever comes first.
    """

    mode: ResetMode = ResetMode.DAILY
    at_hour: int = 4
    idle: float | None = None


@dataclass(frozen=True, slots=True)
class SessionSettings:
    reset: ResetRule = field(default_factory=ResetRule)
    reset_by_type: Mapping[str, ResetRule] = field(default_factory=dict)
    """Per kind of conversation: `dm`, `group`, `thread`."""
    reset_by_channel: Mapping[str, ResetRule] = field(default_factory=dict)
    send_policy: SendPolicy = field(default_factory=SendPolicy)
    one_off_retention: float | None = 7 * 86_400.0
    """Seconds a session of a stateless request is kept after its turn; None: for ever."""
    one_off_max_bytes: int | None = 1024**3
    """Bytes that all of these sessions take at most; None: any number."""
    max_hops: int = 5
    """Messages between sessions of which one has led to the next."""
    bind: BindSettings = field(default_factory=BindSettings)
    side_task_patterns: tuple[str, ...] = SIDE_TASK_PATTERNS
    """How the messages of side tasks begin."""


def is_stale(key: SessionKey, settings: SessionSettings, *, updated_at: float, now: float) -> bool:
    """Whether the session's transcript has had its time, so that the next turn starts a new one.

    Times are Unix seconds; the daily hour is local time.
    """
    rule = rule_for(key, settings)
    if rule.idle is not None and now > updated_at + rule.idle:
        return True
    return rule.mode is ResetMode.DAILY and updated_at < _last_reset(rule, now)


def rule_for(key: SessionKey, settings: SessionSettings) -> ResetRule:
    """The reset rule for a key: by channel, then by kind of conversation, then the general one."""
    # The last part names somebody or something; only those before it say what kind it is.
    parts = key.rest.lower().split(":")[:-1]
    if parts and parts[0] in settings.reset_by_channel:
        return settings.reset_by_channel[parts[0]]
    if "thread" in parts or "topic" in parts:
        kind = "thread"
    elif "group" in parts or "channel" in parts:
        kind = "group"
    else:
        kind = "dm"
    return settings.reset_by_type.get(kind, settings.reset)


def _last_reset(rule: ResetRule, now: float) -> float:
    local = datetime.fromtimestamp(now)
    reset = local.replace(hour=rule.at_hour, minute=0, second=0, microsecond=0)
    if reset > local:
        reset -= timedelta(days=1)
    return reset.timestamp()
