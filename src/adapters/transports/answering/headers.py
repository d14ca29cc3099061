"""The headers that bind a request to an agent, a model and a session.

The domain names fields of its own; here are the headers that they are read from.
"""

from __future__ import annotations

from collections.abc import Mapping

from ....domain.errors import AgentConflict, InvalidRequest
from ....domain.runs import RunRequest, RunSpec
from ....domain.sessions import BindSettings, BoundBy, Conversation
from ..http.fields import plain
from ..http.requests import Headers, family_header, unread_headers

_HEADER_OF: Mapping[str | None, str] = {
    "agent_id": "x-opensoul-agent-id",
    "session_key": "x-opensoul-session-key",
    "chosen_model": "x-opensoul-model",
}
"""The header that a field of RunRequest is read from."""
_BOUND_BY: Mapping[BoundBy, str] = {
    BoundBy.KEY: "x-opensoul-session-key",
    BoundBy.METADATA: "metadata.session_key",
    BoundBy.CONVERSATION: "conversation",
    BoundBy.CONTEXT: "contextId",
    BoundBy.USER: "user",
    BoundBy.REQUEST: "none",
}
_NO_IDS = frozenset({"", "new", "none", "null", "undefined"})
"""What clients send for a conversation that has no id yet, in lower case."""
_PLACEHOLDER = "{{"
"""How a placeholder begins that LibreChat has not filled in."""
SESSION_HINT = f"send the header {_HEADER_OF['session_key']}, or the field `user`"
_KNOWN = frozenset(
    {
        *("agent-id", "agent", "session-key", "model", "scopes"),
        *("approval", "on-disconnect", "reasoning", "events"),
    }
)
"""Headers of the family that are read, without their prefix."""
BINDING_HEADERS = [
    {"name": name, "in": "header", "schema": {"type": "string"}}
    for name in (*_HEADER_OF.values(), "x-opensoul-scopes")
]
"""The same headers as parameters of an OpenAPI operation."""
ANSWER_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in (
        ("x-opensoul-agent-id", "The agent that answers."),
        ("x-opensoul-session-key", "The session of the conversation."),
        ("x-opensoul-session-bound-by", "The part of the request that the session was found by."),
        ("x-opensoul-side-task", "The kind of a side task, such as `title`."),
        ("x-opensoul-run-id", "The run."),
        ("x-opensoul-ignored", "Fields and headers of the request that have no effect."),
    )
}
"""Headers of answers, as in an OpenAPI operation."""
_MOST_IGNORED = 20


def agent_id_in(headers: Headers) -> str | None:
    """The agent that a request names. Raises InvalidRequest."""
    return family_header(headers, "agent-id", "agent")


def session_key_in(headers: Headers) -> str | None:
    """The session that a request names. Raises InvalidRequest."""
    return family_header(headers, "session-key")


def model_in(headers: Headers) -> str | None:
    """The model that a request chooses, in place of the agent's. Raises InvalidRequest."""
    return (family_header(headers, "model") or "").strip() or None


def conversation_in(headers: Headers, settings: BindSettings) -> Conversation | None:
    """The conversation that a request belongs to, by the first header that has an id."""
    for name in settings.headers:
        value = headers.get(name.encode())
        if value is not None:
            text = value.decode("utf-8", "surrogateescape").strip()
            if text.lower() not in _NO_IDS and not text.startswith(_PLACEHOLDER):
                return Conversation(name, text)
    return None


def session_headers(run: RunSpec, run_request: RunRequest) -> dict[str, str]:
    """The headers of an answer that say how the session of its run was found."""
    by = _BOUND_BY[run.bound_by]
    if run_request.after is not None:
        by = "previous_response_id"
    if run.bound_by is BoundBy.CONVERSATION and run_request.conversation is not None:
        by = run_request.conversation.source
    found = {"x-opensoul-session-bound-by": by}
    return {**found, "x-opensoul-side-task": run.side_task} if run.side_task else found


def ignored_names(
    fields: str, headers: Headers, *, without_effect: frozenset[str] = frozenset()
) -> str:
    """The names of `fields` and of headers that are not known, as a header's value.
    `without_effect`: known headers that the format has no use for, without their prefix."""
    names = [plain(name) for name in unread_headers(headers, _KNOWN - without_effect)]
    return ", ".join(filter(None, (fields, *names[:_MOST_IGNORED])))


def as_headers(error: InvalidRequest, headers: Headers) -> InvalidRequest:
    """`error`, naming the header in the place of the domain's field."""
    if isinstance(error, AgentConflict):
        named_by = _header_of(error.named_by, headers) or error.named_by
        error = AgentConflict(error.of_key, error.agent, named_by=named_by, param=error.param)
    error.param = _header_of(error.param, headers)
    return error


def _header_of(field: str | None, headers: Headers) -> str | None:
    """The header that a field was read from, as it was sent; the field where there is none."""
    name = _HEADER_OF.get(field)
    if name is None:
        return field
    alias = name.replace("opensoul", "openclaw")
    return alias if alias.encode() in headers and name.encode() not in headers else name
