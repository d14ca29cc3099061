"""Messages of ours and of LangChain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ....domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from ..runs import AgentRun


def to_messages(run: AgentRun) -> list[Any]:
    """The messages with ids of our own, by which new ones are told from them."""
    from langchain_core.messages import SystemMessage

    messages = [_to_message(message) for message in run.messages]
    for number, message in enumerate(messages):
        message.id = f"{run.run_id}:{number}"
    if run.instructions:
        # The same id each time: a checkpointer replaces it.
        messages.insert(0, SystemMessage(run.instructions, id="opensoul:instructions"))
    return messages


def _to_message(message: Message) -> Any:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    match message.role:
        case Role.SYSTEM:
            return SystemMessage(message.text)
        case Role.USER:
            return HumanMessage(_content(message), name=message.name)
        case Role.TOOL:
            status = "error" if message.is_error else "success"
            return ToolMessage(
                _content(message), tool_call_id=message.tool_call_id or "", status=status
            )
        case Role.ASSISTANT:
            calls, invalid = [], []
            for part in message.parts:
                if isinstance(part, ToolCall):
                    arguments = arguments_of(part.arguments)
                    of = {"id": part.id, "name": part.name}
                    if arguments is None:
                        invalid.append({**of, "args": part.arguments, "error": None})
                    else:
                        calls.append({**of, "args": arguments})
            return AIMessage(message.text, tool_calls=calls, invalid_tool_calls=invalid)


def _content(message: Message) -> str | list[dict[str, str]]:
    if not any(isinstance(part, Image) for part in message.parts):
        return message.text
    content = []
    for part in message.parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            content.append({"type": "image", "base64": part.data, "mime_type": part.mime})
    return content


def arguments_of(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def from_message(message: Any) -> Message:
    """A message of a model, or the result of a tool."""
    parts: list[Part] = []
    for block in message.content_blocks:
        match block:
            case {"type": "text", "text": str() as text} if text:
                parts.append(Text(text))
            case {"type": "reasoning", "reasoning": str() as text} if text:
                parts.append(Reasoning(text))
            case {"type": "image", "base64": str() as data, "mime_type": str() as mime}:
                parts.append(Image(data, mime))
    if message.type == "tool":
        failed = message.status == "error"
        return Message(Role.TOOL, tuple(parts), tool_call_id=message.tool_call_id, is_error=failed)
    return Message(Role.ASSISTANT, (*parts, *calls_of(message)))


def calls_of(message: Any) -> Iterator[ToolCall]:
    for call in message.tool_calls:
        yield ToolCall(call["id"] or "", call["name"], json_of(call["args"]))
    for call in message.invalid_tool_calls:
        yield ToolCall(call["id"] or "", call["name"] or "", call["args"] or "")


def json_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def text_of_message(message: Any) -> str:
    return "".join(part.text for part in from_message(message).parts if isinstance(part, Text))


def messages_in(update: Any) -> list[Any]:
    """The messages of a state, of an update, or of what an entrypoint returns."""
    from langchain_core.messages import convert_to_messages

    found = update.get("messages") if isinstance(update, Mapping) else update
    found = getattr(found, "value", found)  # Overwrite.
    if found is None or isinstance(found, str):
        return []
    found = found if isinstance(found, list | tuple) else [found]
    plain = [m for m in found if isinstance(m, dict) or hasattr(m, "content")]
    return list(convert_to_messages(plain))
