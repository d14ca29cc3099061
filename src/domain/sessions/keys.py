"""Session keys: their grammar, how a request is bound to one, and when a session starts over."""

from __future__ import annotations

import re
from typing import NamedTuple
from unicodedata import category, normalize

from ..errors import SessionKeyInvalid
from ..text import unsafe_in_name

MAIN = "main"
"""What the main session of every agent is called."""


MAX_KEY_BYTES = 512


_SUBAGENT = "subagent:"
_RESERVED = (_SUBAGENT, "cron:", "acp:")


NAMESPACE = "key:"
"""The beginning of the keys of sessions that belong to an API key: `key:<id>:<rest>`."""


_UNSEEN = ("Cf", "Mn", "Me", "Zs", "Zl", "Zp")
"""Categories of the characters that a prefix can hold without looking any different."""


_FILLERS = "\u115f\u1160\u3164\uffa0"
"""Letters by their category that are drawn as nothing."""


_WITHOUT_FILLERS = dict.fromkeys(map(ord, _FILLERS))


_AGENT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class SessionKey(NamedTuple):
    """`agent:<agentId>:<rest>`. The agent id is lower case; the case of the rest is kept.

    (A tuple, since much is looked up by it.)
    """

    agent_id: str
    rest: str

    def __str__(self) -> str:
        return f"agent:{self.agent_id}:{self.rest}"

    @property
    def is_subagent(self) -> bool:
        """Whether an agent began the session for a task of its own."""
        return self.rest.startswith(_SUBAGENT)

    @property
    def depth(self) -> int:
        """How many sub-agents are nested here, as `subagent:ID:subagent:ID`; 0: none."""
        depth, rest = 0, self.rest
        while rest.startswith(_SUBAGENT):
            depth += 1
            rest = rest[len(_SUBAGENT) :].partition(":")[2]
        return depth

    def subagent(self, agent_id: str, name: str) -> SessionKey:
        """The key of a sub-agent that a run of this session starts."""
        nested = f"{self.rest}:" if self.is_subagent else ""
        return SessionKey(agent_id, f"{nested}{_SUBAGENT}{name}")


def parse_key(
    text: str, *, default_agent: str, allow_reserved: bool = False, param: str = "session_key"
) -> tuple[SessionKey, bool]:
    """A key as a client wrote it, canonical; and whether it named its agent itself.

    `allow_reserved`: keys of sub-agents and jobs are the caller's to use. Raises
    SessionKeyInvalid, which names `param`: empty, too long, control or format characters, reserved,
    or a broken `agent:` prefix.
    """
    key = text.strip()
    if not key:
        raise invalid_key("is empty", param)
    if problem := unsafe_in_name(text):
        raise invalid_key(problem, param)
    named = key[:6].lower() == "agent:"
    agent_id, rest = default_agent, key
    if named:
        agent_id, separator, rest = key[6:].partition(":")
        agent_id = agent_id.lower()
        if not separator or not rest or not _AGENT_ID.fullmatch(agent_id):
            raise invalid_key("does not have the form agent:<agentId>:<rest>", param)
    if not allow_reserved and _plain(rest).startswith(_RESERVED):
        raise invalid_key(f"uses a reserved prefix ({', '.join(_RESERVED)})", param)
    canonical = SessionKey(agent_id, rest)
    if len(str(canonical).encode()) > MAX_KEY_BYTES:
        problem = f"is longer than {MAX_KEY_BYTES} bytes (as agent:<agentId>:<rest>)"
        raise invalid_key(problem, param)
    return canonical, named


def in_namespace(key: SessionKey, owner: str) -> bool:
    """Whether the key is in the namespace of the API key `owner`."""
    return key.rest.startswith(f"{NAMESPACE}{owner}:")


def key_id_in(key: SessionKey) -> str | None:
    """The id of the API key whose namespace the key is in; None if it is in none."""
    if not key.rest.startswith(NAMESPACE):
        return None
    return key.rest.removeprefix(NAMESPACE).partition(":")[0]


def with_namespace(key: SessionKey, owner: str) -> SessionKey:
    """The key in the namespace of the API key `owner`; those of sub-agents need none, as nobody
    chooses them. Raises SessionKeyInvalid: too long."""
    if key.is_subagent or in_namespace(key, owner):
        return key
    own = SessionKey(key.agent_id, f"{NAMESPACE}{owner}:{key.rest}")
    if len(str(own).encode()) > MAX_KEY_BYTES:
        raise SessionKeyInvalid(
            f"The session key is longer than {MAX_KEY_BYTES} bytes (as {str(own)[:99]}...).",
            param="session_key",
        )
    return own


def _plain(rest: str) -> str:
    """The rest of a key as a reader might take it: its compatibility form without case, spaces and
    characters that cannot be seen. (`normalize` alone keeps those.)"""
    if rest.isascii():
        return rest.replace(" ", "").lower()
    seen = (char for char in normalize("NFKC", rest) if category(char) not in _UNSEEN)
    return normalize("NFKC", "".join(seen).translate(_WITHOUT_FILLERS)).casefold()


def invalid_key(problem: str, param: str) -> SessionKeyInvalid:
    return SessionKeyInvalid(f"The session key {problem}.", param=param)
