"""The messages of a transcript in the control protocol's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .....domain.errors import InvalidRequest
from .....domain.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall
from .....domain.sessions import KeptMessage
from ...http.json_text import dumps, loads
from ..broadcast import message_ids, sender_key

CUT = "\n[… cut here: the message is too long to be shown whole]"
"""The end of a shortened text."""

_ROLES = {Role.TOOL: "toolResult"}
_LOOKED_AT = 16
"""Characters of a text that are looked at for each that is shown of it."""
_ROOM = 512
"""Bytes reserved for the fields of a shortened message besides its content."""


def message_object(kept: KeptMessage, max_chars: int | None = None) -> dict[str, Any]:
    """One message; each text has at most `max_chars` characters. `seq`: its number."""
    message = kept.message
    row: dict[str, Any] = {
        "role": _ROLES.get(message.role, message.role.value),
        "content": content(message, max_chars),
        "timestamp": int(kept.at * 1_000),
        "runId": kept.run_id,
        "seq": kept.number,
        **message_ids(kept),
    }
    if message.role is Role.USER:
        row["idempotencyKey"] = sender_key(kept.run_id)
    if message.tool_call_id is not None:
        row["toolCallId"] = message.tool_call_id
    if message.name is not None:
        row["toolName" if message.role is Role.TOOL else "name"] = message.name
    if kept.model and message.role is Role.ASSISTANT:
        provider, _, model = kept.model.partition("/")
        row |= {"provider": provider, "model": model}
    return row


def content(message: Message, max_chars: int | None = None) -> list[dict[str, Any]]:
    return [
        _part(part, max_chars)
        for part in message.parts
        # A provider may keep what its model thought to itself.
        if not isinstance(part, Reasoning) or part.text
    ]


def shrunk(row: dict[str, Any], max_bytes: int) -> dict[str, Any]:
    """Shorten a message to at most `max_bytes` as JSON: remove image data, keep the first parts
    and cut the one that no longer fits."""
    parts = [_without_data(part) for part in row["content"]]
    left = max(0, max_bytes - len(dumps({**row, "content": []})) - _ROOM)
    kept: list[dict[str, Any]] = []
    for part in parts:
        size = len(dumps(part)) + 1
        if size <= left:
            kept.append(part)
            left -= size
        else:
            kept.append({"type": "text", "text": _fitting(_text_of(part), left) + CUT})
            break
    return {**row, "content": kept, "truncated": True}


def shortened(text: str, most: int) -> str:
    """`text` cut to `most` characters, the last of them an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def one_line(text: str, most: int) -> str:
    """The start of `text` on one line, at most `most` characters. Only the start is looked at: to
    divide all of a long text into words takes longer than others should wait."""
    start = text.lstrip()[: most * _LOOKED_AT]
    return shortened(" ".join(start.split()), most)


def _part(part: Part, max_chars: int | None) -> dict[str, Any]:
    match part:
        case Text(text=text):
            return {"type": "text", "text": _cut(text, max_chars)}
        case Reasoning(text=text):
            return {"type": "thinking", "thinking": _cut(text, max_chars)}
        case Image(data=data, mime=mime):
            return {"type": "image", "mimeType": mime, "data": data}
        case ToolCall(id=call_id, name=name, arguments=arguments):
            value = _arguments(_cut(arguments, max_chars))
            return {"type": "toolCall", "id": call_id, "name": name, "arguments": value}


def _arguments(text: str) -> object:
    """The arguments as a JSON value, or the text if it is not JSON."""
    try:
        return loads(text.encode("utf-8", "surrogatepass"))
    except InvalidRequest:
        return text


def _cut(text: str, max_chars: int | None) -> str:
    return text if max_chars is None or len(text) <= max_chars else text[:max_chars] + CUT


def _without_data(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    return {"type": "image", "mimeType": part["mimeType"], "omitted": True}


def _text_of(part: dict[str, Any]) -> str:
    text = part.get("text", part.get("thinking"))
    return text if isinstance(text, str) else dumps(part).decode()


def _fitting(text: str, max_bytes: int) -> str:
    """The beginning of `text` that takes at most `max_bytes` as JSON."""
    size, pieces = 0, []
    for piece in _pieces(text):
        size += len(dumps(piece)) - 2
        if size > max_bytes:
            break
        pieces.append(piece)
    return "".join(pieces)


def _pieces(text: str, length: int = 1_024) -> Sequence[str]:
    return [text[start : start + length] for start in range(0, len(text), length)]
