"""The usage object of chat completions and completions."""

from __future__ import annotations

from .....domain.models import Usage
from ...routes import object_schema


def usage_object(usage: Usage) -> dict[str, object]:
    """OpenAI's usage object. `estimated` is ours: the provider reported nothing."""
    fields: dict[str, object] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
    if usage.estimated:
        fields["estimated"] = True
    return fields


_INTEGER = {"type": "integer"}
USAGE_SCHEMA = object_schema(
    {
        "prompt_tokens_details": object_schema({"cached_tokens": _INTEGER}),
        "completion_tokens_details": object_schema({"reasoning_tokens": _INTEGER}),
        "estimated": {"type": "boolean"},
    },
    prompt_tokens=_INTEGER,
    completion_tokens=_INTEGER,
    total_tokens=_INTEGER,
)
