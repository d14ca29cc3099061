"""How a request is bound to an Agent and a Session, and what a resent conversation adds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import quote

from ..agents import Agent, AgentDirectory
from ..errors import AgentConflict
from ..immutable import immutable
from ..messages import Message, Role, ToolCall
from .keys import SessionKey, invalid_key, parse_key

MAX_USER_BYTES = 256
MAX_NAMESPACE = 64


_DIGEST = "sha256-"


class BoundBy(StrEnum):
    """The part of a request that its session was found by."""

    KEY = "session_key"
    METADATA = "metadata"
    """A session key in the request's metadata."""
    CONVERSATION = "conversation"
    CONTEXT = "context"
    """A conversation of which only the new messages are sent."""
    USER = "user"
    REQUEST = "request"
    """The request itself: it has a session of its own."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of the client's: its id, and the name of the header that had it. `resent`: a
    request has all of its messages, not only the new ones."""

    source: str
    id: str
    resent: bool = True


@dataclass(frozen=True, slots=True)
class BindSettings:
    """Which parts of a request find its session, besides session keys."""

    headers: tuple[str, ...] = ()
    """Headers with the id of a conversation, in lower case; the first one present counts."""
    user: bool = True
    """The `user` of a request does."""
    temporary: tuple[str, ...] = ("temporary:", "local:")
    """How the ids of conversations begin that the client forgets."""


@immutable(frozen=True, slots=True)
class Binding:
    """Which agent answers, in which session."""

    agent: Agent
    key: SessionKey
    by: BoundBy

    @property
    def one_off(self) -> bool:
        """The key was made for this request alone."""
        return self.by is BoundBy.REQUEST


def bind(
    directory: AgentDirectory,
    *,
    model: str,
    agent_id: str | None,
    session_key: str | None,
    user: str | None,
    source: str,
    new_id: str,
    metadata_key: str | None = None,
    conversation: Conversation | None = None,
    namespace: str = "",
    settings: BindSettings = BindSettings(),
    allow_reserved: bool = False,
) -> Binding:
    """Find the agent and the session of a request.

    The agent: `agent_id`, then `model`, then a session key that names one, then the default. The
    session: `session_key`, then `metadata_key`, then one made from `conversation`, then one made
    from `user`, then a fresh one with `new_id`. Keys that are made are in the `namespace`.
    Raises UnknownAgent, SessionKeyInvalid.
    """
    by_model = directory.named_by_model(model)
    by_id = directory.find(agent_id, param="agent_id") if agent_id else None
    requested = by_id or by_model
    agent = requested or directory.default
    by, text = BoundBy.KEY, session_key
    if text is None:
        by, text = BoundBy.METADATA, metadata_key
    if text is not None:
        key, named = parse_key(
            text, default_agent=agent.id, allow_reserved=allow_reserved, param=_PARAMS[by]
        )
        if named and requested is not None and key.agent_id != requested.id:
            named_by = "agent_id" if by_id else "model"
            raise AgentConflict(key.agent_id, requested.id, named_by=named_by, param=_PARAMS[by])
        if namespace and _is_foreign(key, namespace):
            raise invalid_key("is in the namespace of another principal", _PARAMS[by])
        return Binding(directory.find(key.agent_id, param=_PARAMS[by]), key, by)
    if conversation is not None:
        if conversation.resent and conversation.id.startswith(settings.temporary):
            return one_off_binding(agent, source=source + _TEMPORARY, new_id=new_id)
        name = f"{conversation.source}:{_safe_name(conversation.id)}"
        rest = _made(source + _CHATS, namespace, name)
        by = BoundBy.CONVERSATION if conversation.resent else BoundBy.CONTEXT
        return Binding(agent, SessionKey(agent.id, rest), by)
    if settings.user and user is not None and user.strip():
        rest = _made(source + _USERS, namespace, _safe_name(user))
        return Binding(agent, SessionKey(agent.id, rest), BoundBy.USER)
    return one_off_binding(agent, source=source, new_id=new_id)


def one_off_binding(agent: Agent, *, source: str, new_id: str) -> Binding:
    """The binding of a request to a session of its own."""
    return Binding(agent, SessionKey(agent.id, f"{source}:{new_id}"), BoundBy.REQUEST)


def is_temporary(key: SessionKey) -> bool:
    """Whether the key, of a one-off session, is that of a conversation which its client does not
    keep."""
    # Behind the namespace of an API key, and before the id of the run.
    return key.rest.rpartition(":")[0].endswith(_TEMPORARY)


def unstored(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What a client's resent conversation adds to a session that already holds turns.

    That is everything after the last assistant message before the final question; an assistant
    message behind the question (a prefill) belongs to the question.
    """
    is_behind = True
    for i in range(len(messages) - 1, -1, -1):
        role = messages[i].role
        if role is Role.USER or role is Role.TOOL:
            is_behind = False
        elif role is Role.ASSISTANT and not is_behind:
            return messages[i + 1 :]
    if is_behind and messages and messages[-1].role is Role.ASSISTANT:
        return ()
    return messages


def with_call_ids(history: Sequence[Message], question: tuple[Message, ...]) -> tuple[Message, ...]:
    """The question, in which each result that names a tool, but none of the calls that have no
    result yet, answers the first of these calls of that name: OpenAI's older functions have no
    call ids."""
    if not question or question[0].role is not Role.TOOL:
        return question
    answered: set[str | None] = set()
    calls: list[ToolCall] = []
    for message in reversed(history):
        if message.role is Role.TOOL:
            answered.add(message.tool_call_id)
        elif message.role is Role.ASSISTANT:
            calls = [part for part in message.parts if isinstance(part, ToolCall)]
            break
    results = {message.tool_call_id for message in question if message.role is Role.TOOL}
    left = [call for call in calls if call.id not in answered and call.id not in results]
    named = {call.id for call in calls}
    messages = list(question)
    for i, message in enumerate(messages):
        if message.role is Role.TOOL and message.tool_call_id not in named:
            call = next((call for call in left if call.name == message.name), None)
            if call is not None:
                left.remove(call)
                messages[i] = replace(message, tool_call_id=call.id)
    return tuple(messages)


_PARAMS = {BoundBy.KEY: "session_key", BoundBy.METADATA: "metadata.session_key"}
"""The fields of a request that session keys are in."""


_TEMPORARY = "-temporary"
"""How the channels of keys end whose sessions are forgotten behind the answer."""
_CHATS, _USERS, _OWNED = "-chat", "-user", "-of"
"""How the channels of keys end that are made from names; the last one: in a namespace."""


def _made(channel: str, namespace: str, name: str) -> str:
    """The rest of a key that is made from a `name`. No namespace has a key of another one: only
    keys with one have `-of` before the first colon, and no colon is in the second part of these."""
    return f"{channel}{_OWNED}:{_part(namespace)}:{name}" if namespace else f"{channel}:{name}"


def _is_foreign(key: SessionKey, namespace: str) -> bool:
    """Whether the key could be made for the names of another principal."""
    channel, _, rest = key.rest.partition(":")
    if not channel.endswith((_CHATS + _OWNED, _USERS + _OWNED)):
        return False
    return rest.partition(":")[0] != _part(namespace)


def _part(namespace: str) -> str:
    return _safe_name(quote(namespace, safe="", errors="surrogatepass"), MAX_NAMESPACE)


def _safe_name(text: str, limit: int = MAX_USER_BYTES) -> str:
    """`text` as part of a key: itself where it is short and printable ASCII, else its digest.

    A name that looks like a digest becomes one too, so that it cannot be another one's.
    """
    if text.isascii() and text.isprintable() and len(text) <= limit:
        name = text.strip()
        if not name.startswith(_DIGEST):
            return name
    return _DIGEST + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
