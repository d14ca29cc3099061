"""The tools of a request: definitions in the flat form of this API, and the choice.

The nested form of chat completions is taken as well, as gateways of this family have it.
https://platform.openai.com/docs/api-reference/responses/create#responses_create-tools
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .....domain.errors import InvalidRequest, Unsupported
from .....domain.tools import ChoiceMode, ClientTools, ToolChoice, ToolSpec
from ...http.fields import Ignored, a_list, a_string, an_object, wrong
from ..common import (
    FUNCTION_FIELDS,
    MAX_TOOLS,
    ToolReader,
    check_named,
    refuse_choice,
)
from ..common import (
    TOOLS_SCHEMA as CHAT_TOOLS_SCHEMA,
)

_FLAT = FUNCTION_FIELDS | {"type"}
_NESTED = frozenset({"type", "function"})
_MODES = tuple(mode.value for mode in ChoiceMode)

_FUNCTION = CHAT_TOOLS_SCHEMA["items"]["properties"]["function"]
_TYPE = {"const": "function"}
TOOLS_SCHEMA: Mapping[str, Any] = {
    "type": ["array", "null"],
    "maxItems": MAX_TOOLS,
    "items": {
        "type": "object",
        "required": ["type", "name"],
        "properties": {"type": _TYPE, **_FUNCTION["properties"]},
    },
}
"""`tools` as JSON Schema."""
_NAMED = {
    "type": "object",
    "required": ["type", "name"],
    "properties": {"type": _TYPE, "name": {"type": "string"}},
}
_ALLOWED = {
    "type": "object",
    "required": ["type", "mode", "tools"],
    "properties": {
        "type": {"const": "allowed_tools"},
        "mode": {"enum": ["auto", "required"]},
        "tools": {"type": "array", "minItems": 1, "items": _NAMED},
    },
}
CHOICE_SCHEMA: Mapping[str, Any] = {"oneOf": [{"enum": [*_MODES, None]}, _NAMED, _ALLOWED]}
"""`tool_choice` as JSON Schema."""


@dataclass(frozen=True, slots=True)
class ResponseTools:
    """`client`: None where the request has no functions. `tools` and `choice` are what the answer
    repeats, in the flat form."""

    client: ClientTools | None = None
    tools: Sequence[object] = ()
    choice: object = "auto"


@dataclass(frozen=True, slots=True)
class _Choice:
    choice: ToolChoice
    echo: object
    allowed: frozenset[str] | None = None
    """The names of the tools that may be called; None: all."""


def read_response_tools(body: Mapping[str, Any], ignored: Ignored) -> ResponseTools:
    """The tools in a body. Raises InvalidRequest and Unsupported; `param` is the path."""
    value = body.get("tools")
    tools = [] if value is None else a_list(value, "tools", MAX_TOOLS)
    refuse_choice(body, "tool_choice", "tools", tools)
    reader = ToolReader(ignored)
    specs = [_tool(reader, tool, f"tools[{i}]", ignored) for i, tool in enumerate(tools)]
    found = _choice(body.get("tool_choice"), {spec.name for spec in specs})
    check_named(found.choice, specs, "tool_choice", "tools")
    if not specs:
        return ResponseTools(choice=found.echo)
    allowed = found.allowed
    used = tuple(spec for spec in specs if allowed is None or spec.name in allowed)
    return ResponseTools(
        ClientTools(used, found.choice), [_flat(spec) for spec in specs], found.echo
    )


def _tool(reader: ToolReader, value: object, path: str, ignored: Ignored) -> ToolSpec:
    fields = an_object(value, path)
    kind = a_string(fields, "type", path)
    if kind != "function":
        raise Unsupported(
            f"`{path}.type`: tools of the type {kind[:50]!r} are not supported; the only type is "
            "'function'. The agent has its own tools in every answer: leave this one out.",
            param=f"{path}.type",
        )
    if isinstance(fields.get("function"), dict) and "name" not in fields:
        ignored.note(fields, _NESTED, "tools[].")
        return reader.function(fields["function"], f"{path}.function")
    return reader.function(fields, path, place="tools[].", known=_FLAT)


def _flat(spec: ToolSpec) -> dict[str, object]:
    return {
        "type": "function",
        "name": spec.name,
        "description": spec.description or None,
        "parameters": dict(spec.parameters) or None,
        "strict": spec.strict,
    }


def _choice(value: object, names: set[str]) -> _Choice:
    match value:
        case None:
            return _Choice(ToolChoice(), "auto")
        case str() if value in _MODES:
            return _Choice(ToolChoice(ChoiceMode(value)), value)
        case dict():
            return _chosen(value, names)
    raise wrong("tool_choice", f"one of {', '.join(_MODES)}, or an object", value)


def _chosen(value: Mapping[str, Any], names: set[str]) -> _Choice:
    kind = value.get("type")
    if kind == "allowed_tools":
        return _allowed_tools(value, names)
    if isinstance(kind, str) and kind != "function":
        raise Unsupported(
            f"`tool_choice.type`: {kind[:50]!r} is not supported; use 'function' or "
            "'allowed_tools'.",
            param="tool_choice.type",
        )
    if (name := _name(value)) is None:
        form = '{"type": "function", "name": "..."}'
        raise InvalidRequest(f"`tool_choice` must have the form {form}.", param="tool_choice")
    return _Choice(ToolChoice(ChoiceMode.REQUIRED, name), _named(name))


def _allowed_tools(value: Mapping[str, Any], names: set[str]) -> _Choice:
    path = "tool_choice"
    if isinstance(nested := value.get("allowed_tools"), dict):
        value, path = nested, f"{path}.allowed_tools"
    mode = value.get("mode")
    if mode not in ("auto", "required"):
        raise wrong(f"{path}.mode", "one of auto, required", mode)
    used: dict[str, None] = {}
    for i, entry in enumerate(a_list(value.get("tools"), f"{path}.tools", MAX_TOOLS)):
        param = f"{path}.tools[{i}]"
        name = _name(entry) if isinstance(entry, dict) else None
        if name is None:
            form = '{"type": "function", "name": "..."}'
            raise InvalidRequest(f"`{param}` must have the form {form}.", param=param)
        if name not in names:
            message = f"Tool choice {name[:100]!r} not found in 'tools' parameter."
            raise InvalidRequest(message, param=param)
        used[name] = None
    if not used:
        raise InvalidRequest(f"`{path}.tools` must name a tool.", param=f"{path}.tools")
    echo = {"type": "allowed_tools", "mode": mode, "tools": [_named(name) for name in used]}
    return _Choice(ToolChoice(ChoiceMode(mode)), echo, frozenset(used))


def _name(value: Mapping[str, Any]) -> str | None:
    """The name in the choice of a function, in either form."""
    match value:
        case {"type": "function", "name": str() as name}:
            return name
        case {"type": "function", "function": {"name": str() as name}}:
            return name
    return None


def _named(name: str) -> dict[str, object]:
    return {"type": "function", "name": name}
