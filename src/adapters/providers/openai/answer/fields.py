"""The fields of a chat completion, in the spellings that providers use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .....domain.errors import FailureKind
from .....domain.models import StopReason

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
_THOUGHTS = ("thinking", "reasoning")
"""The types of content parts with reasoning, and the names of their fields."""
_BESIDE_CONTENT = frozenset({"role", "id", "name", "type", "object", "usage", "token_id"})
_NOTHING: tuple[object, ...] = (None, "", [], {})


def only_text(chunk: Any) -> str | None:
    """The text of a chunk without any other content; None for everything else."""
    try:
        (choice,) = chunk["choices"]
        ((name, text),) = choice["delta"].items()
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if name != "content" or not isinstance(text, str):
        return None
    if choice.get("finish_reason") or choice.get("index") or choice.get("usage"):
        return None
    if choice.get("error"):
        return None
    if chunk.get("usage") or chunk.get("object") == "error":
        return None
    # These fields may contain an error or usage.
    if "error" in chunk or "code" in chunk or "x_groq" in chunk or "base_resp" in chunk:
        return None
    return text


def is_reason(value: object) -> bool:
    """Whether a `finish_reason` is set; some providers write "null" as a string."""
    return bool(value) and str(value).lower() not in ("null", "none")


def stop_of(reason: str | None) -> StopReason:
    """The StopReason of a finish reason; STOP for an unknown one."""
    return _STOPS.get((reason or "stop").lower(), StopReason.STOP)


def failure_of(reason: str) -> FailureKind | None:
    """The FailureKind of a finish reason; None if it does not mean a failure."""
    return _FAILED.get(reason.lower())


def has_reason(document: object) -> bool:
    """Whether a decoded chunk or answer has a finish reason."""
    return any(is_reason(choice.get("finish_reason")) for choice in _choices(document))


def is_partial(document: object) -> bool:
    """Whether the document is a chunk of a stream without a finish reason."""
    return any("delta" in choice for choice in _choices(document)) and not has_reason(document)


def has_content(delta: dict[str, Any]) -> bool:
    """Whether a delta or message has a non-empty field other than the role."""
    return any(value not in _NOTHING for name, value in delta.items() if name != "role")


def unknown(fields: dict[str, Any], known: Iterable[str] = _BESIDE_CONTENT) -> list[str]:
    """The names of unknown fields that may contain content."""
    return [
        name
        for name, value in fields.items()
        if name not in known and isinstance(value, str | list | dict) and value not in _NOTHING
    ]


def is_content(content: object) -> bool:
    """Whether `text` and `reasoning` can read a content field of this type."""
    if isinstance(content, dict):
        return any(isinstance(content.get(name), str) for name in ("type", "text"))
    return content is None or isinstance(content, str | list)


def text(content: object) -> str:
    """The text of a content field: a string, a part, or a list of strings and parts."""
    if isinstance(content, str):
        return content
    return "".join(filter(None, map(_part_text, _parts(content))))


def unknown_parts(content: object) -> list[str]:
    """Descriptions of the content parts that have neither text nor reasoning."""
    return [
        f"a content part of type {part.get('type')!r}"
        if isinstance(part, dict)
        else f"a content part {part!r}"
        for part in _parts(content)
        if _part_text(part) is None and not _is_thought(part) and part is not None
    ]


def reasoning(delta: dict[str, Any]) -> str:
    """The model's reasoning. Three fields are in use; `reasoning_details` repeats `reasoning`."""
    for name in ("reasoning_content", "reasoning"):
        if (thought := delta.get(name)) and isinstance(thought, str):
            return thought
    details = delta.get("reasoning_details")
    if isinstance(details, list):
        return "".join([*_texts(details, "text"), *_texts(details, "summary")])
    return "".join(map(_part_thought, filter(_is_thought, _parts(delta.get("content")))))


def _choices(document: object) -> list[dict[str, Any]]:
    choices = document.get("choices") if isinstance(document, dict) else None
    found = choices if isinstance(choices, list) else []
    return [choice for choice in found if isinstance(choice, dict)]


def _parts(content: object) -> list[Any]:
    if isinstance(content, dict):
        return [content]
    return content if isinstance(content, list) else []


def _is_thought(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in _THOUGHTS


def _part_text(part: object) -> str | None:
    """The text of a content part; None if it has none."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or _is_thought(part):
        return None
    for name in ("text", "refusal", "content"):
        value = part.get(name)
        if isinstance(value, dict):
            value = value.get("value")
        if isinstance(value, str):
            return value
    return None


def _part_thought(part: dict[str, Any]) -> str:
    """The field is a list of text parts (Mistral) or a string (others)."""
    for name in (*_THOUGHTS, "text"):
        value = part.get(name)
        if isinstance(value, str | list) and value:
            return value if isinstance(value, str) else "".join(_texts(value, "text"))
    return ""


def _texts(parts: list[Any], name: str) -> Iterator[str]:
    for part in parts:
        if isinstance(part, dict) and isinstance(text := part.get(name), str):
            yield text
