"""What the `finish_reason` of an answer means."""

from __future__ import annotations

from collections.abc import Mapping

from .....domain.errors import FailureKind
from .....domain.models import StopReason


def is_reason(value: object) -> bool:
    """Whether a `finish_reason` is one; some providers write "null" as a string."""
    return bool(value) and str(value).lower() not in ("null", "none")


def stop_of(reason: str | None) -> StopReason:
    """Why the model stopped; STOP for a reason that is not known."""
    return _STOPS.get((reason or "stop").lower(), StopReason.STOP)


def failure_of(reason: str) -> FailureKind | None:
    """The kind of failure that a reason means; None for the end of an answer."""
    return _FAILED.get(reason.lower())


_STOPS: Mapping[str, StopReason] = {
    "length": StopReason.LENGTH,
    "max_tokens": StopReason.LENGTH,
    "max_output_tokens": StopReason.LENGTH,
    "model_length": StopReason.LENGTH,  # Mistral
    "model_context_window_exceeded": StopReason.LENGTH,  # Anthropic, Zhipu
    "content_filter": StopReason.CONTENT_FILTER,
    "sensitive": StopReason.CONTENT_FILTER,  # Zhipu
    "safety": StopReason.CONTENT_FILTER,  # Gemini, as the next three
    "recitation": StopReason.CONTENT_FILTER,
    "blocklist": StopReason.CONTENT_FILTER,
    "prohibited_content": StopReason.CONTENT_FILTER,
    "refusal": StopReason.CONTENT_FILTER,  # Anthropic
    "tool_calls": StopReason.TOOL_CALLS,
    "function_call": StopReason.TOOL_CALLS,
    "tool_use": StopReason.TOOL_CALLS,  # Anthropic
}
_FAILED: Mapping[str, FailureKind] = {
    "error": FailureKind.BAD_RESPONSE,  # OpenRouter, of a provider that failed
    "abort": FailureKind.BAD_RESPONSE,  # vLLM
    "insufficient_system_resource": FailureKind.OVERLOADED,  # DeepSeek
    "network_error": FailureKind.OVERLOADED,  # Zhipu
}
