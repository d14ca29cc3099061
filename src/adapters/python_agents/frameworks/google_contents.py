"""Messages of ours and contents of Google's models."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ....domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from ..runs import Resumption

CONFIRMATION = "adk_request_confirmation"


def turns_of(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages, with the results of calls that were made together in one list."""
    turns: list[list[Message]] = []
    for message in messages:
        if message.role is Role.TOOL and turns and turns[-1][0].role is Role.TOOL:
            turns[-1].append(message)
        else:
            turns.append([message])
    return turns


def names_of(messages: Iterable[Message]) -> dict[str, str]:
    """The names of tools by the ids of their calls."""
    return {
        part.id: part.name
        for message in messages
        for part in message.parts
        if isinstance(part, ToolCall)
    }


def content_of(turn: Sequence[Message], names: Mapping[str, str]) -> Any:
    """One content. `names`: those of tools by the ids of their calls."""
    from google.genai import types

    parts = [part for message in turn for part in _parts(message, names)]
    role = "model" if turn[0].role is Role.ASSISTANT else "user"
    return types.Content(role=role, parts=parts)


def _parts(message: Message, names: Mapping[str, str]) -> Iterator[Any]:
    from google.genai import types

    if message.role is Role.TOOL:
        call_id = message.tool_call_id or ""
        kind = "error" if message.is_error else "result"
        yield types.Part(
            function_response=types.FunctionResponse(
                id=call_id, name=names.get(call_id, "tool"), response={kind: message.text}
            )
        )
        return
    for part in message.parts:
        match part:
            case Text(text=text):
                yield types.Part(text=text)
            case Image(data=data, mime=mime):
                yield types.Part.from_bytes(data=base64.b64decode(data), mime_type=mime)
            case ToolCall(id=call_id, name=name, arguments=arguments):
                yield types.Part(
                    function_call=types.FunctionCall(id=call_id, name=name, args=_object(arguments))
                )


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def messages_of(content: Any) -> list[Message]:
    """The messages of a content: one of a model, or the results of tools."""
    parts: list[Part] = []
    results: list[Message] = []
    for part in content.parts or ():
        if part.function_response is not None:
            text, failed = result_of(part.function_response.response)
            call_id = part.function_response.id
            said = (Text(text),)
            results.append(Message(Role.TOOL, said, tool_call_id=call_id, is_error=failed))
        elif part.function_call is not None:
            parts.append(call_of(part.function_call))
        elif part.text:
            parts.append(Reasoning(part.text) if part.thought else Text(part.text))
    said_by_model = [Message(Role.ASSISTANT, tuple(parts))] if parts else []
    return [*said_by_model, *results]


def call_of(call: Any) -> ToolCall:
    return ToolCall(call.id, call.name, json_of(call.args or {}))


def result_of(response: Mapping[str, Any] | None) -> tuple[str, bool]:
    """The text of a tool's response, and whether it is an error."""
    match list((response or {}).items()):
        case [("result", str() as text)]:
            return text, False
        case [("result", value)]:
            return json_of(value), False
        case [("error", str() as text)]:
            return text, True
    return json_of(response or {}), False


def json_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def decided(resumption: Resumption) -> Any:
    """The message of the user that confirms calls."""
    from google.genai import types

    parts = [
        types.Part(
            function_response=types.FunctionResponse(
                id=confirmation,
                name=CONFIRMATION,
                response={"confirmed": bool(resumption.decisions.get(call_id))},
            )
        )
        for call_id, confirmation in json.loads(resumption.state)["confirmations"].items()
    ]
    return types.Content(role="user", parts=parts)
