"""The tools that a client brings, and its choice among them.

Shapes: https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ....domain.errors import InvalidRequest, Unsupported
from ....domain.tools import CLIENT_SOURCE, ChoiceMode, ClientTools, ToolChoice, ToolSpec
from ..http.fields import Ignored, a_list, a_string, an_object, optional_string, wrong

MAX_TOOLS = 512
"""Definitions of one request."""
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_KNOWN = frozenset({"type", "name", "description", "input_schema", "cache_control", "strict"})
_CHOICE = frozenset({"type", "name", "disable_parallel_tool_use"})
_MODES = {
    "auto": ChoiceMode.AUTO,
    "any": ChoiceMode.REQUIRED,
    "tool": ChoiceMode.REQUIRED,
    "none": ChoiceMode.NONE,
}
TOOL_FIELDS = frozenset({"tools", "tool_choice"})
"""The fields of a body that `read_tools` reads."""

TOOLS_SCHEMA: Mapping[str, Any] = {
    "type": ["array", "null"],
    "maxItems": MAX_TOOLS,
    "items": {
        "type": "object",
        "required": ["name", "input_schema"],
        "properties": {
            "type": {"enum": ["custom", None]},
            "name": {"type": "string", "pattern": f"^{_NAME.pattern}$"},
            "description": {"type": ["string", "null"]},
            "input_schema": {"type": "object"},
            "strict": {"type": ["boolean", "null"]},
            "cache_control": {"type": ["object", "null"]},
        },
    },
}
"""`tools` as JSON Schema."""
CHOICE_SCHEMA: Mapping[str, Any] = {
    "type": ["object", "null"],
    "required": ["type"],
    "properties": {
        "type": {"enum": list(_MODES)},
        "name": {"type": "string", "description": "Of the type `tool`."},
        "disable_parallel_tool_use": {"type": ["boolean", "null"]},
    },
}
"""`tool_choice` as JSON Schema."""


def read_tools(body: Mapping[str, Any], ignored: Ignored) -> tuple[ClientTools | None, bool]:
    """The client's tools, None where there are none, and whether the model may call several at
    once. Raises InvalidRequest and Unsupported; `param` is the path."""
    value = body.get("tools")
    specs: dict[str, ToolSpec] = {}
    for i, tool in enumerate([] if value is None else a_list(value, "tools", MAX_TOOLS)):
        spec = _tool(tool, f"tools[{i}]", ignored)
        if spec.name in specs:
            param = f"tools[{i}].name"
            raise InvalidRequest(f"`{param}`: {spec.name!r} is defined twice.", param=param)
        specs[spec.name] = spec
    choice, parallel = _choice(body.get("tool_choice"), specs, ignored)
    return (ClientTools(tuple(specs.values()), choice) if specs else None), parallel


def _tool(value: object, path: str, ignored: Ignored) -> ToolSpec:
    fields = an_object(value, path)
    kind = optional_string(fields, "type", path)
    if kind not in (None, "custom"):
        raise Unsupported(
            f"`{path}.type`: tools of the type {kind[:50]!r} are not supported, only 'custom'. "
            "The agent has tools of its own, which it runs itself.",
            param=f"{path}.type",
        )
    name = a_string(fields, "name", path)
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"`{path}.name` must have 1 to 128 letters, digits, underscores or dashes, not "
            f"{name[:100]!r}.",
            param=f"{path}.name",
        )
    ignored.note(fields, _KNOWN, "tools[].")
    if fields.get("cache_control") is not None:
        an_object(fields["cache_control"], f"{path}.cache_control")
    strict = fields.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise wrong(f"{path}.strict", "true, false or null", strict)
    return ToolSpec(
        name,
        optional_string(fields, "description", path) or "",
        an_object(fields.get("input_schema"), f"{path}.input_schema"),
        effects=frozenset(),
        source=CLIENT_SOURCE,
        strict=strict,
    )


def _choice(value: object, specs: Collection[str], ignored: Ignored) -> tuple[ToolChoice, bool]:
    if value is None:
        return ToolChoice(), True
    path = "tool_choice"
    fields = an_object(value, path)
    kind = a_string(fields, "type", path)
    mode = _MODES.get(kind)
    if mode is None:
        raise wrong(f"{path}.type", f"one of {', '.join(_MODES)}", kind)
    ignored.note(fields, _CHOICE, f"{path}.")
    single = fields.get("disable_parallel_tool_use")
    if single is not None and not isinstance(single, bool):
        raise wrong(f"{path}.disable_parallel_tool_use", "true, false or null", single)
    if mode is ChoiceMode.REQUIRED and not specs:
        raise InvalidRequest("`tool_choice` may only be sent with `tools`.", param=path)
    name = a_string(fields, "name", path) if kind == "tool" else ""
    if name and name not in specs:
        raise InvalidRequest(
            f"`{path}.name`: there is no tool {name[:100]!r} in `tools`.", param=f"{path}.name"
        )
    return ToolChoice(mode, name), not single
