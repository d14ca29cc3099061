"""Context ids: the sessions of A2A clients.

The id of a session that a client of another endpoint has begun is its session key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from a2a.types import InvalidParamsError

from ....domain.access import Principal
from ....domain.sessions import Conversation, SessionKey

SOURCE = "a2a"
_NAME = "context"
_ID = r"(?!sha256-)[!-~]{1,200}"
"""Ids that keys have as they are; other names have their digests there."""
_VALID = re.compile(_ID)
_MADE = re.compile(rf"{SOURCE}-chat:{_NAME}:({_ID})")
_MADE_IN_NAMESPACE = re.compile(rf"(?:key:[^:]*:)?{SOURCE}-chat(?:-of:[^:]*)?:{_NAME}:({_ID})")
_SESSION_KEY = "agent:"


@dataclass(frozen=True, slots=True)
class Binding:
    """What finds the session of a context: one of both is None."""

    session_key: str | None = None
    conversation: Conversation | None = None


def binding_of(context_id: str) -> Binding:
    """What finds the session of `context_id`. Raises InvalidParamsError."""
    if context_id.startswith(_SESSION_KEY):
        return Binding(session_key=context_id)
    if not _VALID.fullmatch(context_id):
        raise InvalidParamsError(
            "`contextId` must be 1 to 200 characters of ASCII without spaces, or a session key, "
            "which begins with `agent:`.",
            data={"param": "message.contextId"},
        )
    return Binding(conversation=Conversation(_NAME, context_id, resent=False))


def context_id_of(key: SessionKey, principal: Principal) -> str:
    """The context id with which the principal continues the session."""
    made = _MADE if principal.agents is None else _MADE_IN_NAMESPACE
    found = made.fullmatch(key.rest)
    return str(key) if found is None else found[1]
