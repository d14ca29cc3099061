"""The headers of the family that bind a request to an agent and a session.

The domain names fields of its own; here are the headers that they are read from.
"""

from __future__ import annotations

from collections.abc import Mapping

from .....domain.errors import AgentConflict, InvalidRequest, Unsupported
from ...http.requests import Headers, family_header, unread_headers
from .fields import plain

_HEADER_OF: Mapping[str | None, str] = {
    "agent_id": "x-opensoul-agent-id",
    "session_key": "x-opensoul-session-key",
}
"""The header that a field of RunRequest is read from."""
SESSION_HINT = f"send the header {_HEADER_OF['session_key']}, or the field `user`"
_KNOWN = frozenset({"agent-id", "agent", "session-key", "model", "approval", "reasoning", "events"})
"""Headers of the family that are read, without their prefix."""
BINDING_HEADERS = [
    {"name": name, "in": "header", "schema": {"type": "string"}} for name in _HEADER_OF.values()
]
"""The same headers as parameters of an OpenAPI operation."""
_MOST_IGNORED = 20


def agent_id_in(headers: Headers) -> str | None:
    """The agent that a request names. Raises InvalidRequest."""
    return family_header(headers, "agent-id", "agent")


def session_key_in(headers: Headers) -> str | None:
    """The session that a request names. Raises InvalidRequest."""
    return family_header(headers, "session-key")


def refuse_model_header(headers: Headers) -> None:
    """Reject a request for a model that would be ignored. Raises Unsupported."""
    if model := family_header(headers, "model"):
        names = ("x-opensoul-model", "x-openclaw-model")
        name = next(name for name in names if name.encode() in headers)
        raise Unsupported(
            f"The header {name} ({model[:100]!r}) is not supported: an agent's model is configured "
            "(agents.list[].model). Leave the header out, or name an agent in x-opensoul-agent-id.",
            param=name,
        )


def ignored_names(fields: str, headers: Headers) -> str:
    """The names of `fields` and of headers that are not known, as a header's value."""
    names = [plain(name) for name in unread_headers(headers, _KNOWN)]
    return ", ".join(filter(None, (fields, *names[:_MOST_IGNORED])))


def as_headers(error: InvalidRequest) -> InvalidRequest:
    """`error`, naming the header in the place of the domain's field."""
    if isinstance(error, AgentConflict):
        named_by = _HEADER_OF.get(error.named_by, error.named_by)
        error = AgentConflict(error.of_key, error.agent, named_by=named_by, param=error.param)
    error.param = _HEADER_OF.get(error.param, error.param)
    return error
