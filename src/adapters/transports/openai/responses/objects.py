"""Response objects: from the head of an answer and its output.

https://platform.openai.com/docs/api-reference/responses/object
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .....domain.messages import ToolCall
from .....domain.models import StopReason, Usage
from .....domain.runs import Finished, RunRecord, RunSpec
from ...answering import Answer
from ...http import Problem

_PREFIX = "resp_"
_ID = re.compile(r"resp_([0-9a-f]{32})")
_ERROR_CODES: Mapping[int, str] = {429: "rate_limit_exceeded"}


@dataclass(frozen=True, slots=True)
class Head:
    """What every response object of one answer has. `created_at`: Unix seconds. `echo`: the fields
    that repeat the request, as plain JSON; it can be stored, and the object made again."""

    id: str
    created_at: int
    echo: Mapping[str, object]

    @property
    def key(self) -> str:
        """The id without its prefix, which the ids of the items have, too."""
        return self.id.removeprefix(_PREFIX)


def response_id(run_id: str) -> str:
    """The id of the response that a run answers."""
    return f"{_PREFIX}{run_id.replace('-', '')}"


def run_of_response(response: str) -> str | None:
    """The id of the run that a `response_id` was made of; None for other ids."""
    found = _ID.fullmatch(response)
    return None if found is None else str(uuid.UUID(hex=found[1]))


def head_of(run: RunSpec | RunRecord, echo: Mapping[str, object]) -> Head:
    """The head of the answer to `run`."""
    return Head(response_id(run.id), int(run.accepted_at), echo)


def response_object(
    head: Head,
    status: str,
    output: Sequence[object] = (),
    *,
    usage: Usage | None = None,
    incomplete: str | None = None,
    error: Mapping[str, object] | None = None,
    completed_at: int | None = None,
) -> dict[str, object]:
    """The object. `incomplete`: the reason for that status. `completed_at`: Unix seconds."""
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created_at,
        "status": status,
        "completed_at": completed_at,
        "error": error,
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        **head.echo,
        "output": output,
        "usage": None if usage is None else usage_object(usage),
    }


def answer_object(
    head: Head, answer: Answer, *, reasoning: bool, completed_at: int
) -> dict[str, object]:
    """The object of a complete answer. `reasoning`: with the model's."""
    output = answer_items(head, answer, reasoning=reasoning)
    return finished_object(head, answer.finished, output, completed_at)


def answer_items(head: Head, answer: Answer, *, reasoning: bool) -> list[dict[str, object]]:
    """The output of a complete answer: reasoning, one message, and calls of the client's tools."""
    items: list[dict[str, object]] = []
    if answer.reasoning and reasoning:
        items.append(reasoning_item(head, 0, answer.reasoning))
    if answer.text or not answer.calls:
        items.append(message_item(head, answer.text, status_of(answer.finished, head)[0]))
    return items + call_items(head, answer.calls)


def finished_object(
    head: Head, finished: Finished, output: Sequence[object], completed_at: int
) -> dict[str, object]:
    """The object of a run that has finished."""
    status, reason = status_of(finished, head)
    return response_object(
        head,
        status,
        output,
        usage=finished.usage,
        incomplete=reason,
        completed_at=None if reason else completed_at,
    )


def failed_object(head: Head, problem: Problem, output: Sequence[object]) -> dict[str, object]:
    """The object of a run that has failed. `output`: as far as it was written."""
    return response_object(head, "failed", output, error=error_object(problem))


def status_of(finished: Finished, head: Head) -> tuple[str, str | None]:
    """The status, and why the answer is incomplete."""
    if finished.stop is StopReason.MAX_TOOL_CALLS and head.echo.get("max_tool_calls") is not None:
        return "completed", None  # Calls beyond the client's own limit are left out, no more.
    match finished.stop.finish_reason:
        case "length":
            return "incomplete", "max_output_tokens"
        case "content_filter":
            return "incomplete", "content_filter"
    return "completed", None


def usage_object(usage: Usage) -> dict[str, object]:
    """OpenAI's usage object. `estimated` is ours: the provider reported nothing."""
    fields: dict[str, object] = {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }
    if usage.estimated:
        fields["estimated"] = True
    return fields


def error_object(problem: Problem) -> dict[str, object]:
    """The error of a failed response, with one of the codes that OpenAI publishes."""
    default = "invalid_prompt" if problem.status < 500 else "server_error"
    code = _ERROR_CODES.get(problem.status, default)
    return {
        "code": code,
        "message": problem.message,
        "param": problem.param,
        "type": problem.type,
    }


def message_id(head: Head) -> str:
    """The id of an answer's message; there is one."""
    return f"msg_{head.key}"


def reasoning_id(head: Head, number: int) -> str:
    """The id of reasoning number `number`, from 0."""
    return f"rs_{head.key}_{number}"


def call_id(head: Head, number: int) -> str:
    """The id of the item of call number `number`, from 0. The id that its output repeats is
    another one."""
    return f"fc_{head.key}_{number}"


def message_item(head: Head, text: str, status: str = "completed") -> dict[str, object]:
    """The message of an answer."""
    return {
        "id": message_id(head),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    }


def reasoning_item(
    head: Head, number: int, text: str, status: str = "completed"
) -> dict[str, object]:
    """What the model has thought, as a summary: the only form that all clients show."""
    return {
        "id": reasoning_id(head, number),
        "type": "reasoning",
        "status": status,
        "summary": [{"type": "summary_text", "text": text}],
    }


def call_items(head: Head, calls: Iterable[ToolCall]) -> list[dict[str, object]]:
    """Calls of the client's tools."""
    return [
        {
            "id": call_id(head, number),
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for number, call in enumerate(calls)
    ]
