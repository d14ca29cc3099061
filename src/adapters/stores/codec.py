"""A Message as bytes, and back: one closed, tagged JSON form for every store that writes bytes."""

from __future__ import annotations

import json

import orjson

from ...domain.messages import Message, Part, Reasoning, Role, Text, ToolCall

_Json = dict[str, object]
_ROLES = {role.value: role for role in Role}


class Undecodable(ValueError):
    """Bytes that are no Message: damaged, or from a version that knows more kinds of parts."""


def encode(message: Message) -> bytes:
    """The message as JSON. Every str is kept as it is, lone surrogates included.

    A text with lone surrogates (JSON lets a client send them) has no UTF-8: only then are the
    bytes not UTF-8 but Python's `surrogatepass` form of it. An escape would not do: two halves
    that stand side by side would come back as one character.
    """
    body: _Json = {"role": message.role.value, "parts": [_part(part) for part in message.parts]}
    if message.name is not None:
        body["name"] = message.name
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> Message:
    """The message that `encode` made into `data`. Raises Undecodable.

    Plain look-ups: a `match` on dicts takes several times as long, and histories are long.
    """
    body = _loads(data)
    if not isinstance(body, dict) or not isinstance(body.get("parts"), list):
        raise Undecodable("a stored message is not an object with a role and parts")
    role = body.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Undecodable(f"a stored message has the unknown role {role!r}")
    name, tool_call_id = body.get("name"), body.get("tool_call_id")
    if not (name is None or isinstance(name, str)):
        raise Undecodable("a stored message has a name that is no text")
    if not (tool_call_id is None or isinstance(tool_call_id, str)):
        raise Undecodable("a stored message has a tool_call_id that is no text")
    parts = tuple([_decode_part(part) for part in body["parts"]])
    return Message(_ROLES[role], parts, name, tool_call_id)


def _part(part: Part) -> _Json:
    match part:
        case Text(text=text):
            return {"t": "text", "text": text}
        case Reasoning(text=text):
            return {"t": "reasoning", "text": text}
        case _:
            return {
                "t": "tool_call",
                "id": part.id,
                "name": part.name,
                "arguments": part.arguments,
            }


def _decode_part(part: _Json) -> Part:
    kind = part.get("t") if isinstance(part, dict) else None
    if kind == "text":
        return Text(_text_of(part, "text"))
    if kind == "reasoning":
        return Reasoning(_text_of(part, "text"))
    if kind == "tool_call":
        return ToolCall(_text_of(part, "id"), _text_of(part, "name"), _text_of(part, "arguments"))
    raise Undecodable("a stored message has a part of an unknown kind")


def _text_of(part: _Json, field: str) -> str:
    value = part.get(field)
    if not isinstance(value, str):
        raise Undecodable(f"a part of a stored message has no text in its {field!r}")
    return value


def _loads(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # Lone surrogates, or damage: the slow way tells which.
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"a stored message is not JSON: {error}") from error
