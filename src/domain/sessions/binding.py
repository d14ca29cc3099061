"""How a request is bound to an Agent and a Session, and what a resent conversation adds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..agents import Agent, AgentDirectory
from ..errors import AgentConflict
from ..messages import Message, Role, ToolCall
from .keys import SessionKey, parse_key

MAX_USER_BYTES = 256


_DIGEST = "sha256-"


@dataclass(frozen=True, slots=True)
class Binding:
    """Which agent answers, in which session. `one_off`: the key was made for this request alone."""

    agent: Agent
    key: SessionKey
    one_off: bool


def bind(
    directory: AgentDirectory,
    *,
    model: str,
    agent_id: str | None,
    session_key: str | None,
    user: str | None,
    source: str,
    new_id: str,
    allow_reserved: bool = False,
) -> Binding:
    """Find the agent and the session of a request.

    The agent: `agent_id`, then `model`, then a session key that names one, then the default. The
    session: `session_key`, then one made from `user`, then a fresh one with `new_id`.
    Raises UnknownAgent, SessionKeyInvalid.
    """
    by_model = directory.named_by_model(model)
    by_id = directory.find(agent_id, param="agent_id") if agent_id else None
    requested = by_id or by_model
    if session_key is not None:
        resolved = requested or directory.default
        key, named = parse_key(
            session_key, default_agent=resolved.id, allow_reserved=allow_reserved
        )
        if named and requested is not None and key.agent_id != requested.id:
            named_by = "agent_id" if by_id else "model"
            raise AgentConflict(key.agent_id, requested.id, named_by=named_by, param="session_key")
        agent = directory.find(key.agent_id, param="session_key")
        return Binding(agent, key, one_off=False)
    agent = requested or directory.default
    if user is not None and user.strip():
        return Binding(agent, SessionKey(agent.id, f"{source}-user:{_safe_user(user)}"), False)
    return Binding(agent, SessionKey(agent.id, f"{source}:{new_id}"), one_off=True)


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


def _safe_user(user: str) -> str:
    """`user` as part of a key: itself where it is short and printable ASCII, else its digest.

    A name that looks like a digest becomes one too, so that it cannot be another user's.
    """
    if user.isascii() and user.isprintable() and len(user) <= MAX_USER_BYTES:
        name = user.strip()
        if not name.startswith(_DIGEST):
            return name
    return _DIGEST + hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
