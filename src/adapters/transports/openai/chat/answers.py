"""Chat completion objects: https://platform.openai.com/docs/api-reference/chat/object."""

from __future__ import annotations

from dataclasses import dataclass

from .....domain.models import Usage
from .....domain.runs import RunSpec
from ...http.json_text import dumps
from ..common import Answer


@dataclass(frozen=True, slots=True)
class Head:
    """What every object and every chunk of one answer begins with. `created`: Unix seconds."""

    id: str
    created: int
    model: str


def head_of(run: RunSpec, model: str) -> Head:
    """The head of the answer to `run`; `model` is the string that the client sent."""
    return Head(f"chatcmpl_{run.id}", int(run.accepted_at), model)


def completion(head: Head, answer: Answer) -> bytes:
    """The body of a non-streaming answer."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": answer.finished.stop.value,
    }
    return dumps(
        {
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [choice],
            "usage": usage_object(answer.finished.usage),
        }
    )


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
