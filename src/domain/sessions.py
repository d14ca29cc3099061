"""Session keys: their grammar, how a request is bound to one, and when a session starts over."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from unicodedata import category, normalize

from .agents import Agent, AgentDirectory
from .errors import SessionKeyInvalid
from .messages import Message, Role
from .settings import ResetMode, ResetRule, SessionSettings
from .terminal_text import unsafe_in_name

MAIN = "main"
"""What the main session of every agent is called."""
MAX_KEY_BYTES = 512
MAX_USER_BYTES = 256
_RESERVED = ("subagent:", "cron:", "acp:")
_UNSEEN = ("Cf", "Mn", "Me", "Zs", "Zl", "Zp")
"""Categories of the characters that a prefix can hold without looking any different."""
_FILLERS = "\u115f\u1160\u3164\uffa0"
"""Letters by their category that are drawn as nothing."""
_WITHOUT_FILLERS = dict.fromkeys(map(ord, _FILLERS))
_DIGEST = "sha256-"
_AGENT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class SessionKey(NamedTuple):
    """`agent:<agentId>:<rest>`. The agent id is lower case; the case of the rest is kept.

    (A tuple, since much is looked up by it.)
    """

    agent_id: str
    rest: str

    def __str__(self) -> str:
        return f"agent:{self.agent_id}:{self.rest}"


@dataclass(frozen=True, slots=True)
class Binding:
    """Which agent answers, in which session. `one_off`: the key was made for this request alone."""

    agent: Agent
    key: SessionKey
    one_off: bool


def parse_key(
    text: str, *, default_agent: str, allow_reserved: bool = False
) -> tuple[SessionKey, bool]:
    """A key as a client wrote it, canonical; and whether it named its agent itself.

    `allow_reserved`: keys of sub-agents and jobs are the caller's to use. Raises
    SessionKeyInvalid: empty, too long, control or format characters, reserved, or a broken
    `agent:` prefix.
    """
    key = text.strip()
    if not key:
        raise _invalid("is empty")
    if problem := unsafe_in_name(text):
        raise _invalid(problem)
    named = key[:6].lower() == "agent:"
    agent_id, rest = default_agent, key
    if named:
        agent_id, separator, rest = key[6:].partition(":")
        agent_id = agent_id.lower()
        if not separator or not rest or not _AGENT_ID.fullmatch(agent_id):
            raise _invalid("does not have the form agent:<agentId>:<rest>")
    if not allow_reserved and _plain(rest).startswith(_RESERVED):
        raise _invalid(f"uses a reserved prefix ({', '.join(_RESERVED)})")
    canonical = SessionKey(agent_id, rest)
    if len(str(canonical).encode()) > MAX_KEY_BYTES:
        raise _invalid(f"is longer than {MAX_KEY_BYTES} bytes (as agent:<agentId>:<rest>)")
    return canonical, named


def bind(
    directory: AgentDirectory,
    *,
    model: str,
    agent_header: str | None,
    session_key: str | None,
    user: str | None,
    door: str,
    new_id: str,
    allow_reserved: bool = False,
) -> Binding:
    """Find the agent and the session of a request.

    The agent: header, then model, then a session key that names one, then the default. The
    session: the key as given, then one made from `user`, then a fresh one with `new_id`.
    Raises UnknownAgent, SessionKeyInvalid.
    """
    by_model = directory.named_by_model(model)
    by_header = directory.find(agent_header, param="x-opensoul-agent-id") if agent_header else None
    asked = by_header or by_model
    if session_key is not None:
        resolved = asked or directory.default
        key, named = parse_key(
            session_key, default_agent=resolved.id, allow_reserved=allow_reserved
        )
        if named and asked is not None and key.agent_id != asked.id:
            source = "x-opensoul-agent-id" if by_header else "model"
            raise _invalid(f"names the agent {key.agent_id!r}, but {source} asks for {asked.id!r}")
        agent = directory.find(key.agent_id, param="x-opensoul-session-key")
        return Binding(agent, key, one_off=False)
    agent = asked or directory.default
    if user is not None and user.strip():
        return Binding(agent, SessionKey(agent.id, f"{door}-user:{_safe_user(user)}"), False)
    return Binding(agent, SessionKey(agent.id, f"{door}:{new_id}"), one_off=True)


def unstored(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What a client's resent conversation adds to a session that already holds turns.

    That is everything after the last assistant message before the final question; an assistant
    message behind the question (a prefill) belongs to the question.
    """
    question = max(
        (i for i, message in enumerate(messages) if message.role in (Role.USER, Role.TOOL)),
        default=len(messages),
    )
    for i in range(question - 1, -1, -1):
        if messages[i].role is Role.ASSISTANT:
            return messages[i + 1 :]
    return messages


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


def _plain(rest: str) -> str:
    """The rest of a key as a reader might take it: its compatibility form without case, spaces and
    characters that cannot be seen. (`normalize` alone keeps those.)"""
    if rest.isascii():
        return rest.replace(" ", "").lower()
    seen = (char for char in normalize("NFKC", rest) if category(char) not in _UNSEEN)
    return normalize("NFKC", "".join(seen).translate(_WITHOUT_FILLERS)).casefold()


def _safe_user(user: str) -> str:
    """`user` as part of a key: itself where it is short and printable ASCII, else its digest.

    A name that looks like a digest becomes one too, so that it cannot be another user's.
    """
    if user.isascii() and user.isprintable() and len(user) <= MAX_USER_BYTES:
        name = user.strip()
        if not name.startswith(_DIGEST):
            return name
    return _DIGEST + hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def _invalid(problem: str) -> SessionKeyInvalid:
    return SessionKeyInvalid(f"The session key {problem}.", param="x-opensoul-session-key")
