"""Whether a Session may be written to: rules of the configuration, and the Session's own word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import SendBlocked

if TYPE_CHECKING:
    from .sessions import SessionKey  # Which needs the settings, and those this policy.


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
