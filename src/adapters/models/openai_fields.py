"""The fields of a chat completion, in the spellings that providers use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from ...domain.model_calls import Usage


def loads(payload: bytes) -> object:
    """The value of a JSON text; None where it is none."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None


def only_text(chunk: Any) -> str | None:
    """The text of a chunk that tells nothing else; None for any other, and for what is none."""
    try:
        (choice,) = chunk["choices"]
        ((name, text),) = choice["delta"].items()
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if name != "content" or not isinstance(text, str):
        return None
    if choice.get("finish_reason") or choice.get("index") or chunk.get("usage"):
        return None
    return None if "error" in chunk or chunk.get("object") == "error" else text


def text(content: str | list[Any] | None) -> str:
    """The text of a content field, which Mistral sends as a list of parts."""
    if not isinstance(content, list):
        return content or ""
    return "".join(_texts(content, "text"))


def reasoning(delta: dict[str, Any]) -> str:
    """What the model thought: three fields in use, of which the last repeats the second."""
    for name in ("reasoning_content", "reasoning"):
        if (thought := delta.get(name)) and isinstance(thought, str):
            return thought
    details = delta.get("reasoning_details")
    if isinstance(details, list):
        return "".join([*_texts(details, "text"), *_texts(details, "summary")])
    content = delta.get("content")
    if isinstance(content, list):
        return "".join(
            "".join(_texts(part["thinking"], "text"))
            for part in content
            if isinstance(part, dict) and isinstance(part.get("thinking"), list)
        )
    return ""


def _texts(parts: list[Any], name: str) -> Iterator[str]:
    for part in parts:
        if isinstance(part, dict) and isinstance(text := part.get(name), str):
            yield text


def usage(usage: object) -> Usage | None:
    """What is reported, or None where it says nothing: no call takes zero tokens."""
    if not isinstance(usage, dict):
        return None
    spent = Usage(
        input=_count(usage, "prompt_tokens"),
        output=_count(usage, "completion_tokens"),
        reasoning=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        cached=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
    )
    return spent if spent.total else None


def _count(counts: object, name: str) -> int:
    number = counts.get(name) if isinstance(counts, dict) else None
    return number if isinstance(number, int) and number > 0 else 0
