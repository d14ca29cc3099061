"""What a server sends, as the model reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.validators import validator_for
from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)

from ...domain.text import untrusted
from ...domain.tools import Effect, Repeat, ToolResult
from .tools import RemoteTool

_LONGEST_DESCRIPTION = 4_000
_LONGEST_PARAMETERS = 64 * 1024


def tool_result(server: str, result: CallToolResult) -> ToolResult:
    """Texts as they are, pictures and sound as a note, structured content as JSON.

    Structured content is left out beside a text, which has to contain the same.
    """
    parts = list(_parts(result))
    structured = result.structured_content
    if structured is not None and not any(isinstance(b, TextContent) for b in result.content):
        parts.insert(0, json.dumps(structured, ensure_ascii=False))
    text = "\n".join(parts) or "(no content)"
    return ToolResult(untrusted(text, f"mcp:{server}"), is_error=result.is_error)


def error_result(server: str, message: str) -> ToolResult:
    """An error that the server worded."""
    return ToolResult(untrusted(message, f"mcp:{server}"), is_error=True)


def remote_tools(tools: Iterable[Tool]) -> list[RemoteTool]:
    """The tools, each with the fault for which providers would refuse a request that offers it."""
    return [_remote_tool(tool) for tool in tools]


def _remote_tool(tool: Tool) -> RemoteTool:
    """A tool that is not marked as reading only may do anything, and is never repeated:
    `idempotentHint` is no promise to carry out a key once."""
    reads = tool.annotations is not None and tool.annotations.read_only_hint is True
    return RemoteTool(
        name=tool.name,
        description=(tool.description or tool.title or "")[:_LONGEST_DESCRIPTION],
        parameters=tool.input_schema,
        effects=frozenset({Effect.READ}) if reads else frozenset(Effect),
        repeat=Repeat.SAFE if reads else Repeat.UNSAFE,
        fault=_fault(tool),
    )


def _fault(tool: Tool) -> str:
    if not tool.name.strip():
        return "it has no name"
    schema = tool.input_schema
    try:
        size = len(json.dumps(schema))
        if size > _LONGEST_PARAMETERS:
            return f"its parameters have {size} characters of JSON, more than {_LONGEST_PARAMETERS}"
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path))
        return f"its parameters are no JSON Schema{where and f', at {where}'}"
    except (RecursionError, ValueError, re.error):
        return "its parameters are no JSON Schema that can be checked"
    return ""


def _parts(result: CallToolResult) -> Iterator[str]:
    for block in result.content:
        match block:
            case TextContent(text=text):
                yield text
            case ImageContent(data=data, mime_type=kind):
                yield f"[an image, {kind}, {_size(data)} bytes, not shown]"
            case AudioContent(data=data, mime_type=kind):
                yield f"[a sound, {kind}, {_size(data)} bytes, not played]"
            case ResourceLink(uri=uri, name=name):
                yield f"[a resource: {name}, {uri}]"
            case EmbeddedResource(resource=TextResourceContents(uri=uri, text=text)):
                yield f"[the resource {uri}]\n{text}"
            case EmbeddedResource(resource=resource):
                yield f"[the resource {resource.uri}, not text, not shown]"


def _size(base64: str) -> int:
    return len(base64) * 3 // 4
