"""The fields of a chat completion, in the spellings that providers use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .stops import is_reason

_THOUGHTS = ("thinking", "reasoning")
"""The types of the content parts that hold reasoning, and their fields."""
_BESIDE_CONTENT = frozenset({"role", "id", "name", "type", "object", "usage", "token_id"})
_NOTHING: tuple[object, ...] = (None, "", [], {})


def only_text(chunk: Any) -> str | None:
    """The text of a chunk that holds nothing else; None for any other, and for what is no chunk."""
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
    # Fields that may hold an error or the usage.
    if "error" in chunk or "code" in chunk or "x_groq" in chunk or "base_resp" in chunk:
        return None
    return text


def has_reason(document: object) -> bool:
    """Whether a decoded chunk or answer has a finish reason."""
    return any(is_reason(choice.get("finish_reason")) for choice in _choices(document))


def goes_on(document: object) -> bool:
    """Whether it is a chunk behind which others have to follow."""
    return any("delta" in choice for choice in _choices(document)) and not has_reason(document)


def says_something(delta: dict[str, Any]) -> bool:
    """Whether a delta or message holds more than a role and empty fields."""
    return any(value not in _NOTHING for name, value in delta.items() if name != "role")


def unknown(fields: dict[str, Any], known: Iterable[str] = _BESIDE_CONTENT) -> list[str]:
    """The names of the fields that may hold content in a form that is not known."""
    return [
        name
        for name, value in fields.items()
        if name not in known and isinstance(value, str | list | dict) and value not in _NOTHING
    ]


def is_content(content: object) -> bool:
    """Whether a content field has a form that `text` and `reasoning` understand."""
    if isinstance(content, dict):
        return any(isinstance(content.get(name), str) for name in ("type", "text"))
    return content is None or isinstance(content, str | list)


def text(content: object) -> str:
    """The text of a content field: a string, a part, or a list of strings and parts."""
    if isinstance(content, str):
        return content
    return "".join(filter(None, map(_part_text, _parts(content))))


def odd_parts(content: object) -> list[str]:
    """What the parts of a content field are that hold neither text nor reasoning."""
    return [
        f"a content part of type {part.get('type')!r}"
        if isinstance(part, dict)
        else f"a content part {part!r}"
        for part in _parts(content)
        if _part_text(part) is None and not _is_thought(part) and part is not None
    ]


def reasoning(delta: dict[str, Any]) -> str:
    """The model's reasoning: three fields in use, of which the last repeats the second."""
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
    """The text of a content part; None when it is no part with a text."""
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
    """Mistral's holds a list of text parts, others a string."""
    for name in (*_THOUGHTS, "text"):
        value = part.get(name)
        if isinstance(value, str | list) and value:
            return value if isinstance(value, str) else "".join(_texts(value, "text"))
    return ""


def _texts(parts: list[Any], name: str) -> Iterator[str]:
    for part in parts:
        if isinstance(part, dict) and isinstance(text := part.get(name), str):
            yield text
