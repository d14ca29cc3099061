"""The conversation of a request as the domain has it: structured turns, never flattened.

Shapes: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....domain.errors import InvalidRequest, Unsupported
from ....domain.messages import Message, Part, Reasoning, Role, Text, ToolCall
from ....domain.text import untrusted
from ..http.fields import Ignored, a_list, a_string, an_object, optional_string, wrong
from ..http.json_text import dumps
from ..media import UNREAD, MediaPart

MAX_MESSAGES = 10_000
MAX_BLOCKS = 2_000
"""Content blocks of one message, of `system`, and of one result."""

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_MESSAGE = frozenset({"role", "content"})
_BLOCK = frozenset({"type", "cache_control"})
"""Fields of every block. The Gateway places the breakpoints of caches itself."""
_TEXT = _BLOCK | {"text", "citations"}
_KNOWN_SOURCES = frozenset({"type", "media_type", "data", "url", "content"})
_MAX_NAME = 255
_RESULT = "tool_result"

_SOURCE_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["base64", "url", "text", "content"]},
        "media_type": {"type": "string"},
        "data": {"type": "string"},
        "url": {"type": "string"},
    },
}
_BLOCK_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type"],
    "description": "Of a user: `text`, `image`, `document` (a PDF file in base64 or a text), "
    "`search_result`, `tool_result`. Of the assistant: `text`, `thinking`, `redacted_thinking`, "
    "`tool_use`. A picture at a URL is fetched where the Gateway is configured to do so.",
    "properties": {
        "type": {"type": "string"},
        "text": {"type": "string"},
        "source": _SOURCE_SCHEMA,
        "thinking": {"type": "string"},
        "signature": {"type": "string"},
        "data": {"type": "string"},
        "id": {"type": "string"},
        "name": {"type": "string"},
        "input": {"type": "object"},
        "tool_use_id": {"type": "string"},
        "is_error": {"type": ["boolean", "null"]},
        "cache_control": {"type": ["object", "null"]},
    },
}
_CONTENT_SCHEMA: Mapping[str, Any] = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": _BLOCK_SCHEMA, "maxItems": MAX_BLOCKS},
    ]
}
MESSAGES_SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_MESSAGES,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"enum": list(_ROLES)}, "content": _CONTENT_SCHEMA},
    },
}
"""What `read_messages` takes, without the details of blocks."""
_SYSTEM_BLOCK = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {
        "type": {"const": "text"},
        "text": {"type": "string"},
        "cache_control": {"type": ["object", "null"]},
    },
}
SYSTEM_SCHEMA: Mapping[str, Any] = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": _SYSTEM_BLOCK, "maxItems": MAX_BLOCKS},
        {"type": "null"},
    ]
}


def read_messages(
    body: Mapping[str, Any], ignored: Ignored, media: list[MediaPart]
) -> tuple[tuple[Message, ...], Mapping[str, str]]:
    """The conversation in a body, `system` first, and the paths of the ids that results have. What
    is unknown in it is noted in `ignored`.

    Pictures and files are added to `media`; UNREAD stands in their places. Raises InvalidRequest,
    and Unsupported for other blocks; `param` is the path.
    """
    reader = _Reader(ignored, media)
    reader.system(body.get("system"))
    value = body.get("messages")
    if value is None:
        raise InvalidRequest(
            "`messages` is missing; it must be a list with a user message.", param="messages"
        )
    for i, entry in enumerate(a_list(value, "messages", MAX_MESSAGES)):
        reader.message(entry, f"messages[{i}]")
    if not any(
        m.role is Role.TOOL or (m.role is Role.USER and (m.text.strip() or UNREAD in m.parts))
        for m in reader.messages
    ):
        raise InvalidRequest("Missing user message in `messages`.", param="messages")
    return tuple(reader.messages), reader.results


@dataclass(frozen=True, slots=True)
class _Block:
    """A content block of a request. `place`: that of its part among the messages."""

    fields: dict[str, Any]
    kind: str
    path: str
    where: str
    """The path with which unknown fields are named."""
    place: tuple[int, int]


class _Reader:
    """A message of the API becomes one or more: each result of a tool is a message of its own."""

    def __init__(self, ignored: Ignored, media: list[MediaPart]) -> None:
        self.messages: list[Message] = []
        self.results: dict[str, str] = {}
        """The paths of the ids that results have."""
        self._ignored = ignored
        self._media = media
        self._of_user: Mapping[str, Callable[[_Block], Sequence[Part]]] = {
            "text": self._text,
            "image": self._image,
            "document": self._document,
            "search_result": self._search_result,
        }
        self._of_assistant: Mapping[str, Callable[[_Block], Sequence[Part]]] = {
            "text": self._text,
            "thinking": self._thinking,
            "redacted_thinking": self._redacted,
            "tool_use": self._tool_use,
        }

    def system(self, value: object) -> None:
        if value is None or value == "" or value == []:
            return
        text = self._texts(value, "system", "system[].")
        self.messages.append(Message(Role.SYSTEM, (Text(text),)))

    def message(self, value: object, path: str) -> None:
        fields = an_object(value, path)
        name = a_string(fields, "role", path)
        role = _ROLES.get(name)
        if role is None:
            raise wrong(f"{path}.role", f"one of {', '.join(_ROLES)}", name)
        self._ignored.note(fields, _MESSAGE, "messages[].")
        content = fields.get("content")
        if isinstance(content, str):
            self.messages.append(Message(role, (Text(content),)))
            return
        if not isinstance(content, list):
            raise wrong(f"{path}.content", "a string or a list of content blocks", content)
        path, where = f"{path}.content", "messages[].content[]."
        if role is Role.SYSTEM:
            self.messages.append(Message(role, (Text(self._texts(content, path, where)),)))
        elif role is Role.ASSISTANT:
            parts = self._parts(content, path, where, self._of_assistant, len(self.messages))
            self.messages.append(Message(role, tuple(parts) or (Text(""),)))
        else:
            self._user(a_list(content, path, MAX_BLOCKS), path, where)

    def _user(self, content: Sequence[object], path: str, where: str) -> None:
        """Results come first, wherever they are among the blocks: they belong to the calls of the
        message before."""
        first = sum(isinstance(item, dict) and item.get("type") == _RESULT for item in content)
        number = len(self.messages) + first
        parts: list[Part] = []
        for i, item in enumerate(content):
            block = self._block(item, f"{path}[{i}]", where, (number, len(parts)))
            if block.kind == _RESULT:
                self._tool_result(block)
            else:
                parts += self._read(block, self._of_user)
        if parts or not content:
            self.messages.append(Message(Role.USER, tuple(parts) or (Text(""),)))

    def _tool_result(self, block: _Block) -> None:
        fields, path = block.fields, block.path
        known = _BLOCK | {"tool_use_id", "content", "is_error"}
        self._ignored.note(fields, known, block.where)
        call_id = a_string(fields, "tool_use_id", path)
        self.results[call_id] = f"{path}.tool_use_id"
        is_error = fields.get("is_error")
        if is_error is not None and not isinstance(is_error, bool):
            raise wrong(f"{path}.is_error", "true, false or null", is_error)
        content = fields.get("content")
        parts: Sequence[Part] = ()
        if isinstance(content, str):
            parts = (Text(content),)
        elif isinstance(content, list):
            path, where = f"{path}.content", f"{block.where}content[]."
            parts = self._parts(content, path, where, self._of_user, len(self.messages))
        elif content is not None:
            raise wrong(f"{path}.content", "a string or a list of content blocks", content)
        found = tuple(parts) or (Text(""),)
        failed = bool(is_error)
        self.messages.append(Message(Role.TOOL, found, tool_call_id=call_id, is_error=failed))

    def _parts(
        self,
        content: list[object],
        path: str,
        where: str,
        readers: Mapping[str, Callable[[_Block], Sequence[Part]]],
        message: int,
    ) -> list[Part]:
        parts: list[Part] = []
        for i, item in enumerate(a_list(content, path, MAX_BLOCKS)):
            block = self._block(item, f"{path}[{i}]", where, (message, len(parts)))
            parts += self._read(block, readers)
        return parts

    def _block(self, value: object, path: str, where: str, place: tuple[int, int]) -> _Block:
        fields = an_object(value, path)
        kind = a_string(fields, "type", path)
        cache = fields.get("cache_control")
        if cache is not None:
            an_object(cache, f"{path}.cache_control")
        return _Block(fields, kind, path, where, place)

    def _read(
        self, block: _Block, readers: Mapping[str, Callable[[_Block], Sequence[Part]]]
    ) -> Sequence[Part]:
        reader = readers.get(block.kind)
        if reader is None:
            known = ", ".join(readers)
            param = f"{block.path}.type"
            raise Unsupported(
                f"`{param}`: blocks of the type {block.kind[:50]!r} are not supported here, only "
                f"{known}.",
                param=param,
            )
        return reader(block)

    def _text(self, block: _Block) -> Sequence[Part]:
        self._ignored.note(block.fields, _TEXT, block.where)
        return (Text(a_string(block.fields, "text", block.path)),)

    def _thinking(self, block: _Block) -> Sequence[Part]:
        """The model that signed it is not known here. Where a turn goes on that was handed out by
        the Gateway, the stored reasoning takes its place, with its signature."""
        self._ignored.note(block.fields, _BLOCK | {"thinking", "signature"}, block.where)
        optional_string(block.fields, "signature", block.path)
        text = a_string(block.fields, "thinking", block.path)
        return (Reasoning(text),) if text else ()

    def _redacted(self, block: _Block) -> Sequence[Part]:
        self._ignored.note(block.fields, _BLOCK | {"data"}, block.where)
        data = a_string(block.fields, "data", block.path)
        return (Reasoning("", data, redacted=True),) if data else ()

    def _tool_use(self, block: _Block) -> Sequence[Part]:
        fields, path = block.fields, block.path
        self._ignored.note(fields, _BLOCK | {"id", "name", "input", "caller"}, block.where)
        arguments = dumps(an_object(fields.get("input"), f"{path}.input")).decode()
        return (ToolCall(a_string(fields, "id", path), a_string(fields, "name", path), arguments),)

    def _image(self, block: _Block) -> Sequence[Part]:
        self._ignored.note(block.fields, _BLOCK | {"source"}, block.where)
        path = f"{block.path}.source"
        source = an_object(block.fields.get("source"), path)
        self._ignored.note(source, _KNOWN_SOURCES, f"{block.where}source.")
        match a_string(source, "type", path):
            case "base64":
                url, param = _data_url(source, path), f"{path}.data"
            case "url":
                url, param = a_string(source, "url", path), f"{path}.url"
            case kind:
                raise _no_source(path, kind, "base64, url")
        self._media.append(MediaPart(*block.place, True, url, param))
        return (UNREAD,)

    def _document(self, block: _Block) -> Sequence[Part]:
        fields, path = block.fields, block.path
        known = _BLOCK | {"source", "title", "context", "citations"}
        self._ignored.note(fields, known, block.where)
        _refuse_citations(fields, path)
        title = optional_string(fields, "title", path) or ""
        context = optional_string(fields, "context", path)
        path = f"{path}.source"
        source = an_object(fields.get("source"), path)
        self._ignored.note(source, _KNOWN_SOURCES, f"{block.where}source.")
        match a_string(source, "type", path):
            case "base64":
                url, param = _data_url(source, path), f"{path}.data"
            case "text":
                url, param = _text_url(a_string(source, "data", path)), f"{path}.data"
            case "content":
                param = f"{path}.content"
                where = f"{block.where}source.content[]."
                url = _text_url(self._texts(source.get("content"), param, where))
            case kind:
                raise _no_source(path, kind, "base64, text, content")
        message, number = block.place
        parts: list[Part] = [Text(context)] if context else []
        place = message, number + len(parts)
        self._media.append(MediaPart(*place, False, url, param, filename=title[:_MAX_NAME]))
        return (*parts, UNREAD)

    def _search_result(self, block: _Block) -> Sequence[Part]:
        fields, path = block.fields, block.path
        known = _BLOCK | {"source", "title", "content", "citations"}
        self._ignored.note(fields, known, block.where)
        _refuse_citations(fields, path)
        title, source = a_string(fields, "title", path), a_string(fields, "source", path)
        text = self._texts(fields.get("content"), f"{path}.content", f"{block.where}content[].")
        return (Text(untrusted(f"{title}\n{source}\n\n{text}", "search result")),)

    def _texts(self, value: object, path: str, where: str) -> str:
        """The text of blocks, which are its paragraphs."""
        if isinstance(value, str):
            return value
        if not isinstance(value, list):
            raise wrong(path, "a string or a list of text blocks", value)
        parts = self._parts(value, path, where, {"text": self._text}, 0)
        return "\n\n".join(part.text for part in parts if isinstance(part, Text))


def _refuse_citations(fields: Mapping[str, Any], path: str) -> None:
    citations = fields.get("citations")
    if isinstance(citations, Mapping) and citations.get("enabled"):
        raise Unsupported(
            f"`{path}.citations`: citations are not supported. Leave them out.",
            param=f"{path}.citations",
        )


def _data_url(source: Mapping[str, Any], path: str) -> str:
    mime = a_string(source, "media_type", path)
    # A comma would end the head of the URL.
    if "," in mime or ";" in mime:
        raise wrong(f"{path}.media_type", "a media type", mime)
    return f"data:{mime};base64,{a_string(source, 'data', path)}"


def _text_url(text: str) -> str:
    data = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return f"data:text/plain;charset=utf-8;base64,{data}"


def _no_source(path: str, kind: str, known: str) -> Unsupported:
    return Unsupported(
        f"`{path}.type`: the source {kind[:50]!r} is not supported, only {known}.",
        param=f"{path}.type",
    )
