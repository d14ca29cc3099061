"""Messages as the domain has them: structured turns, never flattened.

Shapes: https://platform.openai.com/docs/api-reference/chat/create, the older `function` ones too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .....domain.errors import InvalidRequest, Unsupported
from .....domain.messages import Message, Part, Reasoning, Role, Text, ToolCall
from ...http.fields import Ignored, a_list, a_string, an_object, kind_of, optional_string, wrong
from ...media import UNREAD, MediaPart
from .media_parts import MEDIA_KINDS, read_media_part

MAX_MESSAGES = 10_000
MAX_PARTS = 2_000
"""Parts of one message, and its calls of tools."""

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_EVERYWHERE = frozenset({"role", "content", "name"})
_KNOWN = {
    Role.SYSTEM: _EVERYWHERE,
    Role.USER: _EVERYWHERE,
    Role.TOOL: _EVERYWHERE | {"tool_call_id"},
    Role.ASSISTANT: _EVERYWHERE
    | {"tool_calls", "function_call", "refusal", "reasoning_content", "audio"},
}
_TEXTS = ("text", "input_text")
_FUNCTION_SCHEMA = {
    "type": "object",
    "required": ["name", "arguments"],
    "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}},
}
_CALL_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["id", "function"],
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "function"},
        "function": _FUNCTION_SCHEMA,
    },
}
"""A call of a tool as JSON Schema."""
_PART_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "A `text`, or of a user and in a tool's result an `image_url` (a data URL; "
    "another where the Gateway is configured to fetch it) or a `file` (`file_data`: a text or a PDF"
    " file, as a data URL or in base64).",
}
MESSAGES_SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_MESSAGES,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"enum": list(_ROLES)},
            "content": {
                "oneOf": [
                    {"type": "string"},
                    {"type": "array", "items": _PART_SCHEMA, "maxItems": MAX_PARTS},
                    {"type": "null"},
                ]
            },
            "name": {"type": ["string", "null"]},
            "tool_calls": {
                "type": ["array", "null"],
                "items": _CALL_SCHEMA,
                "maxItems": MAX_PARTS,
                "description": "Of an assistant's message.",
            },
            "tool_call_id": {
                "type": ["string", "null"],
                "description": "The call that a tool's message answers.",
            },
        },
    },
}
"""What `read_messages` takes, without the details of parts."""
_SHOWING = frozenset({Role.USER, Role.TOOL})
"""Roles whose messages may have pictures and files."""


def read_messages(
    value: object, ignored: Ignored, media: list[MediaPart], field: str = "messages"
) -> tuple[Message, ...]:
    """The conversation in the `field` of a body. What is unknown in it is noted in `ignored`.

    Pictures and files are added to `media`; UNREAD stands in their places. Raises InvalidRequest,
    and Unsupported for other parts; `param` is the path.
    """
    if value is None:
        raise InvalidRequest(
            f"`{field}` is missing; it must be a list with a user message.", param=field
        )
    reader = _Reader(ignored, media, field)
    messages = tuple(
        reader.message(entry, f"{field}[{i}]", i)
        for i, entry in enumerate(a_list(value, field, MAX_MESSAGES))
    )
    if not any(
        m.role is Role.TOOL or (m.role is Role.USER and (m.text.strip() or UNREAD in m.parts))
        for m in messages
    ):
        raise InvalidRequest(f"Missing user message in `{field}`.", param=field)
    return messages


class _Reader:
    """Reads messages in their order: the older function calls have no ids and get some here."""

    def __init__(self, ignored: Ignored, media: list[MediaPart], field: str) -> None:
        self._ignored = ignored
        self._media = media
        self._number = 0
        self._field = field
        self._function_calls = 0

    def message(self, value: object, path: str, number: int) -> Message:
        self._number = number
        fields = an_object(value, path)
        name = a_string(fields, "role", path)
        role = _ROLES.get(name)
        if role is None:
            raise wrong(f"{path}.role", f"one of {', '.join(_ROLES)}", name)
        self._ignored.note(fields, _KNOWN[role], f"{self._field}[].")
        return Message(
            role,
            self._parts(fields, role, path),
            name=optional_string(fields, "name", path),
            tool_call_id=self._answers(fields, name, path),
        )

    def _answers(self, fields: dict[str, Any], role: str, path: str) -> str | None:
        """Which call a tool's message answers."""
        if role == "function" and self._function_calls:
            return _function_call_id(self._function_calls)
        if role == "tool":
            return optional_string(fields, "tool_call_id", path)
        return None

    def _parts(self, fields: dict[str, Any], role: Role, path: str) -> tuple[Part, ...]:
        extra = self._assistants_own(fields, path) if role is Role.ASSISTANT else []
        content = fields.get("content")
        if content is None and role is Role.ASSISTANT:
            # Without calls and without text: an empty answer, as some libraries send it back.
            return tuple(extra) or (Text(""),)
        if isinstance(content, str):
            said: list[Part] = [Text(content)]
        elif isinstance(content, list):
            content = a_list(content, f"{path}.content", MAX_PARTS)
            said = self._content(content, role, f"{path}.content")
        else:
            raise _no_content(content, role, path)
        thought = [part for part in extra if isinstance(part, Reasoning)]
        return (*thought, *said, *(part for part in extra if not isinstance(part, Reasoning)))

    def _content(self, parts: Sequence[object], role: Role, path: str) -> list[Part]:
        if not parts:
            return [Text("")]
        return [self._part(part, role, f"{path}[{i}]", i) for i, part in enumerate(parts)]

    def _part(self, value: object, role: Role, path: str, number: int) -> Part:
        fields = an_object(value, path)
        kind = a_string(fields, "type", path)
        if kind in MEDIA_KINDS:
            place = self._number, number
            found = read_media_part(fields, kind, path, place, self._ignored)
            if role not in _SHOWING:
                raise Unsupported(
                    f"`{path}`: {kind} parts are supported in messages of the user and in results "
                    "of tools only.",
                    param=path,
                )
            self._media.append(found)
            return UNREAD
        key = "text" if kind in _TEXTS else kind
        if key == "text" and kind == "input_text" and "text" not in fields:
            key = "input_text"  # An older spelling: the text under the name of its type.
        if key not in ("text", "input_text") and not (kind == "refusal" and role is Role.ASSISTANT):
            raise wrong(f"{path}.type", f"one of {', '.join(_TEXTS)}", kind)
        self._ignored.note(fields, frozenset({"type", key}), f"{self._field}[].content[].")
        return Text(a_string(fields, key, path))

    def _assistants_own(self, fields: dict[str, Any], path: str) -> list[Part]:
        """What only assistants say: thoughts, refusals, calls."""
        if fields.get("audio") is not None:
            raise Unsupported(f"`{path}.audio` is not supported.", param=f"{path}.audio")
        parts: list[Part] = []
        if thought := optional_string(fields, "reasoning_content", path):
            parts.append(Reasoning(thought))
        if refusal := optional_string(fields, "refusal", path):
            parts.append(Text(refusal))
        if fields.get("tool_calls") is not None:
            calls = a_list(fields["tool_calls"], f"{path}.tool_calls", MAX_PARTS)
            parts += [_tool_call(c, f"{path}.tool_calls[{i}]") for i, c in enumerate(calls)]
        if fields.get("function_call") is not None:
            self._function_calls += 1
            call_id = _function_call_id(self._function_calls)
            parts.append(_function(fields["function_call"], call_id, f"{path}.function_call"))
        return parts


def _tool_call(value: object, path: str) -> ToolCall:
    fields = an_object(value, path)
    kind = fields.get("type", "function")
    if kind != "function":
        raise Unsupported(
            f"`{path}.type` must be 'function', not {kind_of(kind)}.", param=f"{path}.type"
        )
    return _function(fields.get("function"), a_string(fields, "id", path), f"{path}.function")


def _function(value: object, call_id: str, path: str) -> ToolCall:
    fields = an_object(value, path)
    return ToolCall(call_id, a_string(fields, "name", path), a_string(fields, "arguments", path))


def _function_call_id(number: int) -> str:
    return f"function_call_{number}"


def _no_content(content: object, role: Role, path: str) -> InvalidRequest:
    expected = "a string or a list of parts"
    if role is Role.ASSISTANT:
        expected += " or null"
    return wrong(f"{path}.content", expected, content)
