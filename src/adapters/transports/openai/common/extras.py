"""What an answer has beside OpenAI's own fields, as headers of the request choose it."""

from __future__ import annotations

from .....domain.errors import InvalidRequest
from .....domain.immutable import immutable
from .....domain.settings import ChatEndpointSettings
from ...http.requests import Headers, family_header

_REASONING, _EVENTS = "x-opensoul-reasoning", "x-opensoul-events"
_REASONING_VALUES = {"include": True, "omit": False}
_TOOLS = "tools"

EXTRA_HEADERS = [
    {"name": _REASONING, "in": "header", "schema": {"enum": [*_REASONING_VALUES]}},
    {"name": _EVENTS, "in": "header", "schema": {"const": _TOOLS}},
]
"""The headers as parameters of an OpenAPI operation."""


@immutable(frozen=True, slots=True)
class Extras:
    """`reasoning`: the model's, as `reasoning_content`. `tools`: a stream has an event for what the
    agent's tools do."""

    reasoning: bool = True
    tools: bool = False


def extras_in(
    headers: Headers, settings: ChatEndpointSettings, *, asks_reasoning: bool = False
) -> Extras:
    """The extras of an answer. `asks_reasoning`: the body asks for the model's reasoning. Raises
    InvalidRequest."""
    reasoning: bool | None = settings.reasoning or asks_reasoning
    if (value := family_header(headers, "reasoning")) is not None:
        reasoning = _REASONING_VALUES.get(value.strip().lower())
    if reasoning is None:
        raise InvalidRequest(
            f"The header {_REASONING} must be `include` or `omit`.", param=_REASONING
        )
    names = family_header(headers, "events") or ""
    events = {name.strip().lower() for name in names.split(",")} - {""}
    if events - {_TOOLS}:
        raise InvalidRequest(
            f"The only value of the header {_EVENTS} is `{_TOOLS}`.", param=_EVENTS
        )
    return Extras(reasoning, bool(events))
