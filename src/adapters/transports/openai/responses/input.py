"""The items of a request's `input` as messages of the domain.

Shapes: https://platform.openai.com/docs/api-reference/responses/create, and `source` objects in
pictures and files, which some gateways of this family take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .....domain.errors import InvalidRequest, Unsupported
from .....domain.messages import Message, Part, Reasoning, Role, Text, ToolCall
from .....domain.sessions import Summary, summary_text
from ...http.fields import Ignored, a_list, a_string, an_object, optional_string, wrong
from ...media import UNREAD, MediaPart
from ..common import MAX_MESSAGES, MAX_PARTS, MEDIA_KINDS, read_media_part
from .summaries import summary_in

_ROLES = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
}
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_SHOWING = frozenset({Role.USER, Role.TOOL})
"""Roles whose messages may have pictures and files."""
_ITEM = frozenset({"type", "id", "status"})
_MESSAGE = _ITEM | {"role", "content", "phase"}
_CALL = _ITEM | {"call_id", "name", "arguments"}
_OUTPUT = _ITEM | {"call_id", "output", "name"}
_REASONING = _ITEM | {"summary", "content"}
_COMPACTION = frozenset({"type", "id", "encrypted_content", "created_by", "status"})
_REFERENCE = frozenset({"type", "id"})
_TEXT_PART = frozenset({"type", "text", "annotations", "logprobs"})
_PARTS = "input[].content[]."

_PART_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type"],
    "description": "An `input_text`, of an assistant an `output_text` or a `refusal`, of a user and"
    " in the output of a call an `input_image` (`image_url`: a data URL; another where the Gateway "
    "is configured to fetch it) or an `input_file` (`file_data`: a text or a PDF file, as a data "
    "URL or in base64).",
}
_CONTENT_SCHEMA: Mapping[str, Any] = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": _PART_SCHEMA, "maxItems": MAX_PARTS},
    ]
}
_ITEM_SCHEMAS: Sequence[Mapping[str, Any]] = (
    {
        "type": "object",
        "title": "message",
        "required": ["role", "content"],
        "properties": {
            "type": {"enum": ["message", None]},
            "role": {"enum": list(_ROLES)},
            "content": _CONTENT_SCHEMA,
        },
    },
    {
        "type": "object",
        "title": "function_call",
        "required": ["type", "call_id", "name", "arguments"],
        "properties": {
            "type": {"const": "function_call"},
            "call_id": {"type": "string"},
            "name": {"type": "string"},
            "arguments": {"type": "string"},
        },
    },
    {
        "type": "object",
        "title": "function_call_output",
        "required": ["type", "call_id", "output"],
        "properties": {
            "type": {"const": "function_call_output"},
            "call_id": {"type": "string"},
            "output": _CONTENT_SCHEMA,
        },
    },
    {
        "type": "object",
        "title": "reasoning",
        "required": ["type"],
        "properties": {"type": {"const": "reasoning"}, "summary": {"type": ["array", "null"]}},
    },
    {
        "type": "object",
        "title": "compaction",
        "required": ["type", "encrypted_content"],
        "properties": {"type": {"const": "compaction"}, "encrypted_content": {"type": "string"}},
    },
    {
        "type": "object",
        "title": "item_reference",
        "required": ["id"],
        "properties": {"type": {"enum": ["item_reference", None]}, "id": {"type": "string"}},
    },
)
INPUT_ITEM: Mapping[str, Any] = {"anyOf": list(_ITEM_SCHEMAS)}
"""An item that `InputReader` takes, without the details of parts."""
INPUT_SCHEMA: Mapping[str, Any] = {
    "oneOf": [
        {"type": "string"},
        {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_MESSAGES,
            "items": INPUT_ITEM,
        },
    ]
}
"""What `input_items` and `InputReader` take, without the details of parts."""


def input_items(value: object) -> list[object]:
    """The `input` of a body as a list of items: a text is the message of a user. Raises
    InvalidRequest."""
    if value is None:
        raise InvalidRequest("`input` is missing; it must be a text or a list.", param="input")
    if isinstance(value, str):
        content = [{"type": "input_text", "text": value}]
        return [{"type": "message", "role": "user", "content": content}]
    if not isinstance(value, list):
        raise wrong("input", "a string or a list", value)
    return a_list(value, "input", MAX_MESSAGES)


@dataclass(slots=True)
class _Draft:
    """A message that items are added to: the calls of an assistant are items of their own."""

    role: Role
    path: str
    """Of the first item."""
    parts: list[Part] = field(default_factory=list)
    call_id: str | None = None
    name: str | None = None

    @property
    def is_open(self) -> bool:
        """A text of the assistant belongs to it: it has calls without results and no text."""
        return self.role is Role.ASSISTANT and not any(isinstance(p, Text) for p in self.parts)


class InputReader:
    """Reads items in their order.

    Thoughts, a text and calls of an assistant that follow one another are one message, as in the
    other formats. Pictures and files are added to `media`; UNREAD stands in their places. What is
    unknown is noted in `ignored`. `resolved`: the items that references stand for, by their ids;
    others are added to `references`, with their paths.
    """

    def __init__(
        self, ignored: Ignored, media: list[MediaPart], resolved: Mapping[str, object]
    ) -> None:
        self._ignored = ignored
        self._media = media
        self._resolved = resolved
        self._drafts: list[_Draft] = []
        self._thoughts: list[Part] = []
        """Those of the assistant's next text or call."""
        self.references: dict[str, str] = {}

    def read(self, items: Sequence[object], field: str = "input") -> None:
        """Add the items. Raises InvalidRequest, and Unsupported for items and parts of other
        types; `param` is the path."""
        for i, item in enumerate(items):
            self._item(item, f"{field}[{i}]")

    @property
    def messages(self) -> tuple[Message, ...]:
        """Those of the items so far. Raises InvalidRequest where there is nothing to answer."""
        drafts = self._drafts
        if not self.references and not any(map(_asks, drafts)):
            raise InvalidRequest("Missing user message in `input`.", param="input")
        return tuple(Message(d.role, tuple(d.parts), d.name, d.call_id) for d in drafts)

    @property
    def places(self) -> tuple[str, ...]:
        """The path of the first item of each message."""
        return tuple(draft.path for draft in self._drafts)

    def _item(self, value: object, path: str) -> None:
        fields = an_object(value, path)
        optional_string(fields, "id", path)
        kind = fields.get("type")
        if kind is None:
            kind = "message" if "role" in fields else "item_reference" if "id" in fields else kind
        match kind:
            case "message":
                self._message(fields, path)
            case "function_call":
                self._call(fields, path)
            case "function_call_output":
                self._output(fields, path)
            case "reasoning":
                self._reasoning(fields, path)
            case "compaction":
                self._compaction(fields, path)
            case "item_reference":
                self._reference(fields, path)
            case str():
                raise Unsupported(
                    f"`{path}.type`: items of the type {kind[:50]!r} are not supported, only "
                    "message, function_call, function_call_output, reasoning, compaction and "
                    "item_reference.",
                    param=f"{path}.type",
                )
            case _:
                raise wrong(f"{path}.type", "a string", kind)

    def _message(self, fields: dict[str, Any], path: str) -> None:
        name = a_string(fields, "role", path)
        role = _ROLES.get(name)
        if role is None:
            raise wrong(f"{path}.role", f"one of {', '.join(_ROLES)}", name)
        self._ignored.note(fields, _MESSAGE, "input[].")
        draft = _Draft(role, path)
        if role is Role.ASSISTANT and self._drafts and self._drafts[-1].is_open:
            draft = self._drafts[-1]
        else:
            self._drafts.append(draft)
        said = self._content(fields.get("content"), role, f"{path}.content")
        thoughts = self._taken_thoughts()
        draft.parts[:0] = [*thoughts, *said] if role is Role.ASSISTANT else said

    def _call(self, fields: dict[str, Any], path: str) -> None:
        self._ignored.note(fields, _CALL, "input[].")
        call = ToolCall(
            a_string(fields, "call_id", path),
            a_string(fields, "name", path),
            a_string(fields, "arguments", path),
        )
        if not self._drafts or self._drafts[-1].role is not Role.ASSISTANT:
            self._drafts.append(_Draft(Role.ASSISTANT, path))
        self._drafts[-1].parts += [*self._taken_thoughts(), call]

    def _output(self, fields: dict[str, Any], path: str) -> None:
        self._ignored.note(fields, _OUTPUT, "input[].")
        call_id = a_string(fields, "call_id", path)
        draft = _Draft(Role.TOOL, path, call_id=call_id, name=optional_string(fields, "name", path))
        self._drafts.append(draft)
        self._thoughts.clear()
        draft.parts += self._content(fields.get("output"), Role.TOOL, f"{path}.output")

    def _reasoning(self, fields: dict[str, Any], path: str) -> None:
        self._ignored.note(fields, _REASONING, "input[].")
        texts: list[str] = []
        for name in ("summary", "content"):
            if fields.get(name) is not None:
                parts = a_list(fields[name], f"{path}.{name}", MAX_PARTS)
                read = self._content(parts, Role.ASSISTANT, f"{path}.{name}")
                texts += [part.text for part in read if isinstance(part, Text) and part.text]
        if texts:  # Else only another service can read it.
            self._thoughts.append(Reasoning("\n\n".join(texts)))

    def _compaction(self, fields: dict[str, Any], path: str) -> None:
        self._ignored.note(fields, _COMPACTION, "input[].")
        content = a_string(fields, "encrypted_content", path)
        summary = summary_in(content)
        if summary is None:
            param = f"{path}.encrypted_content"
            raise InvalidRequest(
                f"`{param}` was not made by this Gateway's /v1/responses/compact.", param=param
            )
        text = summary_text(Summary(summary, 0))
        self._thoughts.clear()
        self._drafts.append(_Draft(Role.USER, path, [Text(text)]))

    def _reference(self, fields: dict[str, Any], path: str) -> None:
        self._ignored.note(fields, _REFERENCE, "input[].")
        item_id = a_string(fields, "id", path)
        if item_id in self._resolved:
            self._item(self._resolved[item_id], path)
        else:
            self.references.setdefault(item_id, path)

    def _taken_thoughts(self) -> Sequence[Part]:
        thoughts, self._thoughts = self._thoughts, []
        return thoughts

    def _content(self, content: object, role: Role, path: str) -> list[Part]:
        if isinstance(content, str):
            return [Text(content)]
        if not isinstance(content, list):
            raise wrong(path, "a string or a list of parts", content)
        parts = a_list(content, path, MAX_PARTS)
        return [self._part(part, role, f"{path}[{i}]", i) for i, part in enumerate(parts)] or [
            Text("")
        ]

    def _part(self, value: object, role: Role, path: str, number: int) -> Part:
        fields = an_object(value, path)
        kind = a_string(fields, "type", path)
        if kind in MEDIA_KINDS:
            if role not in _SHOWING:
                raise Unsupported(
                    f"`{path}`: {kind} parts are supported in messages of the user and in outputs "
                    "of calls only.",
                    param=path,
                )
            place = len(self._drafts) - 1, number
            if fields.get("source") is not None:
                path = f"{path}.source"
                fields = _without_source(fields, kind, path)
            part = read_media_part(fields, kind, path, place, self._ignored, _PARTS)
            self._media.append(replace(part, param=path) if path.endswith("source") else part)
            return UNREAD
        if kind == "refusal" and role is Role.ASSISTANT:
            self._ignored.note(fields, frozenset({"type", "refusal"}), _PARTS)
            return Text(a_string(fields, "refusal", path))
        if kind not in _TEXTS:
            raise wrong(f"{path}.type", "one of input_text, output_text", kind)
        self._ignored.note(fields, _TEXT_PART, _PARTS)
        return Text(a_string(fields, "text", path))


def _asks(draft: _Draft) -> bool:
    """Whether there is something to answer in a message."""
    if draft.role is Role.USER:
        return any(not isinstance(part, Text) or part.text.strip() for part in draft.parts)
    return draft.role is Role.TOOL


def _without_source(fields: dict[str, Any], kind: str, path: str) -> dict[str, Any]:
    """A part with a `source` object, which is at `path`, as one with the `image_url`, `file_data`
    or `file_url` of this API."""
    source = an_object(fields["source"], path)
    part = {name: value for name, value in fields.items() if name != "source"}
    is_picture = kind == "input_image"
    match a_string(source, "type", path):
        case "url":
            part["image_url" if is_picture else "file_url"] = a_string(source, "url", path)
        case "base64":
            mime, data = a_string(source, "media_type", path), a_string(source, "data", path)
            part["image_url" if is_picture else "file_data"] = f"data:{mime};base64,{data}"
            if not is_picture and (name := optional_string(source, "filename", path)):
                part["filename"] = name
        case other:
            raise wrong(f"{path}.type", "one of url, base64", other)
    return part
