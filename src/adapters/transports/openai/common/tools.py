"""The tools that a client brings: definitions, the choice, and the older functions.

Shapes: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .....domain.errors import InvalidRequest, Unsupported
from .....domain.tools import CLIENT_SOURCE, ChoiceMode, ClientTools, ToolChoice, ToolSpec
from ...http.fields import Ignored, a_list, a_string, an_object, kind_of, optional_string, wrong

MAX_TOOLS = 512
"""Definitions of one request. OpenAI takes 128."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
FUNCTION_FIELDS = frozenset({"name", "description", "parameters", "strict"})
_TOOL = frozenset({"type", "function"})
_MODES = tuple(mode.value for mode in ChoiceMode)
TOOL_FIELDS = frozenset({"tools", "tool_choice", "functions", "function_call"})
"""The fields of a body that `read_tools` reads."""

TOOLS_SCHEMA: Mapping[str, Any] = {
    "type": ["array", "null"],
    "maxItems": MAX_TOOLS,
    "items": {
        "type": "object",
        "required": ["type", "function"],
        "properties": {
            "type": {"const": "function"},
            "function": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "pattern": f"^{_NAME.pattern}$"},
                    "description": {"type": ["string", "null"]},
                    "parameters": {"type": ["object", "null"]},
                    "strict": {"type": ["boolean", "null"]},
                },
            },
        },
    },
}
"""`tools` as JSON Schema."""
_NAMED = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}},
        },
    },
}
_ALLOWED = {
    "type": "object",
    "required": ["type", "allowed_tools"],
    "properties": {
        "type": {"const": "allowed_tools"},
        "allowed_tools": {
            "type": "object",
            "required": ["mode", "tools"],
            "properties": {
                "mode": {"enum": ["auto", "required"]},
                "tools": {"type": "array", "minItems": 1, "items": _NAMED},
            },
        },
    },
}
CHOICE_SCHEMA: Mapping[str, Any] = {"oneOf": [{"enum": [*_MODES, None]}, _NAMED, _ALLOWED]}
"""`tool_choice` as JSON Schema."""


@dataclass(frozen=True, slots=True)
class ReadTools:
    """`client`: None where the request has no tools. `legacy`: it uses the older functions, and its
    answer has them, too."""

    client: ClientTools | None = None
    legacy: bool = False


NO_TOOLS = ReadTools()


def read_tools(body: Mapping[str, Any], ignored: Ignored) -> ReadTools:
    """The client's tools in a body. Raises InvalidRequest and Unsupported; `param` is the path."""
    if TOOL_FIELDS.isdisjoint(body):
        return NO_TOOLS
    tools, functions = _items(body, "tools"), _items(body, "functions")
    if tools and functions:
        raise InvalidRequest("`functions` cannot be used beside `tools`.", param="functions")
    refuse_choice(body, "tool_choice", "tools", tools)
    refuse_choice(body, "function_call", "functions", functions)
    reader = ToolReader(ignored)
    if functions:
        specs = [reader.function(f, f"functions[{i}]") for i, f in enumerate(functions)]
        choice = _function_call(body.get("function_call"))
        check_named(choice, specs, "function_call", "functions")
        return ReadTools(ClientTools(tuple(specs), choice), legacy=True)
    specs = [reader.tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    choice, used = _tool_choice(body.get("tool_choice"), specs)
    check_named(choice, specs, "tool_choice", "tools")
    return ReadTools(ClientTools(tuple(used), choice)) if specs else NO_TOOLS


def refuse_choice(body: Mapping[str, Any], field: str, of: str, tools: Sequence[object]) -> None:
    """Refuse a choice that needs tools where there are none. `auto` and `none` have no effect then.
    Raises InvalidRequest."""
    if not tools and body.get(field) not in (None, "auto", "none"):
        raise InvalidRequest(
            f"Invalid value for '{field}': '{field}' is only allowed when '{of}' are specified.",
            param=field,
        )


def check_named(choice: ToolChoice, specs: Sequence[ToolSpec], field: str, of: str) -> None:
    """Refuse the choice of a tool that is not defined. Raises InvalidRequest."""
    if choice.name and choice.name not in {spec.name for spec in specs}:
        raise InvalidRequest(
            f"Tool choice {choice.name[:100]!r} not found in '{of}' parameter.", param=field
        )


def _items(body: Mapping[str, Any], field: str) -> Sequence[object]:
    value = body.get(field)
    return [] if value is None else a_list(value, field, MAX_TOOLS)


class ToolReader:
    """Reads definitions, each name once."""

    def __init__(self, ignored: Ignored) -> None:
        self._ignored = ignored
        self._names: set[str] = set()

    def tool(self, value: object, path: str) -> ToolSpec:
        fields = an_object(value, path)
        kind = a_string(fields, "type", path)
        if kind != "function":
            raise Unsupported(
                f"`{path}.type`: tools of the type {kind[:50]!r} are not supported; the only type "
                "is 'function'.",
                param=f"{path}.type",
            )
        self._ignored.note(fields, _TOOL, "tools[].")
        return self.function(fields.get("function"), f"{path}.function")

    def function(
        self,
        value: object,
        path: str,
        *,
        place: str = "tools[].function.",
        known: frozenset[str] = FUNCTION_FIELDS,
    ) -> ToolSpec:
        """The function at `path`. Fields that are not `known` are noted as fields of `place`."""
        fields = an_object(value, path)
        name = a_string(fields, "name", path)
        if _NAME.fullmatch(name) is None:
            raise InvalidRequest(
                f"`{path}.name` must have 1 to 64 letters, digits, underscores or dashes, not "
                f"{name[:100]!r}.",
                param=f"{path}.name",
            )
        if name in self._names:
            raise InvalidRequest(f"`{path}.name`: {name!r} is defined twice.", param=f"{path}.name")
        self._names.add(name)
        self._ignored.note(fields, known, place)
        parameters = fields.get("parameters")
        strict = fields.get("strict")
        if strict is not None and not isinstance(strict, bool):
            raise wrong(f"{path}.strict", "true, false or null", strict)
        return ToolSpec(
            name,
            optional_string(fields, "description", path) or "",
            {} if parameters is None else an_object(parameters, f"{path}.parameters"),
            effects=frozenset(),
            source=CLIENT_SOURCE,
            strict=strict,
        )


def _tool_choice(value: object, specs: Sequence[ToolSpec]) -> tuple[ToolChoice, Sequence[ToolSpec]]:
    """The choice, and those of the tools that it allows."""
    match value:
        case None:
            return ToolChoice(), specs
        case str() if value in _MODES:
            return ToolChoice(ChoiceMode(value)), specs
        case {"type": "function", "function": {"name": str() as name}}:
            return ToolChoice(ChoiceMode.REQUIRED, name), specs
        case {"type": "allowed_tools", "allowed_tools": dict() as allowed}:
            return _allowed_tools(allowed, specs)
        case {"type": str() as kind} if kind not in ("function", "allowed_tools"):
            raise Unsupported(
                f"`tool_choice.type`: {kind[:50]!r} is not supported; use 'function' or "
                "'allowed_tools'.",
                param="tool_choice.type",
            )
        case dict():
            raise InvalidRequest(
                "`tool_choice` must have the form "
                '{"type": "function", "function": {"name": "..."}}.',
                param="tool_choice",
            )
    raise wrong("tool_choice", f"one of {', '.join(_MODES)}, or an object", value)


def _allowed_tools(
    allowed: Mapping[str, Any], specs: Sequence[ToolSpec]
) -> tuple[ToolChoice, Sequence[ToolSpec]]:
    path = "tool_choice.allowed_tools"
    mode = allowed.get("mode")
    if mode not in ("auto", "required"):
        raise wrong(f"{path}.mode", "one of auto, required", mode)
    known = {spec.name: spec for spec in specs}
    used = {}
    for i, entry in enumerate(a_list(allowed.get("tools"), f"{path}.tools", MAX_TOOLS)):
        match entry:
            case {"type": "function", "function": {"name": str() as name}} if name in known:
                used[name] = known[name]
            case {"type": "function", "function": {"name": str() as name}}:
                raise InvalidRequest(
                    f"Tool choice {name[:100]!r} not found in 'tools' parameter.",
                    param=f"{path}.tools[{i}]",
                )
            case _:
                form = '{"type": "function", "function": {"name": "..."}}'
                raise InvalidRequest(
                    f"`{path}.tools[{i}]` must have the form {form}.", param=f"{path}.tools[{i}]"
                )
    if not used:
        raise InvalidRequest(f"`{path}.tools` must name a tool.", param=f"{path}.tools")
    return ToolChoice(ChoiceMode(mode)), list(used.values())


def _function_call(value: object) -> ToolChoice:
    """The older choice: `auto`, `none`, or an object with the function's name."""
    match value:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(ChoiceMode.NONE)
        case {"name": str() as name}:
            return ToolChoice(ChoiceMode.REQUIRED, name)
    raise InvalidRequest(
        f'`function_call` must be one of auto, none, or {{"name": "..."}}, not {kind_of(value)}.',
        param="function_call",
    )
