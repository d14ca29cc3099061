"""Tools of a server, and their names before a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256

from ...domain.settings import McpServerSettings
from ...domain.tools import Effect, Repeat, ToolSpec

_LONGEST_NAME = 64
"""Providers accept names of at most 64 letters, digits, `_` and `-`."""


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server lists it."""

    name: str
    description: str
    parameters: Mapping[str, object]
    effects: frozenset[Effect]
    repeat: Repeat
    fault: str = ""
    """Why no model is offered the tool; empty: it can be used."""


def specs(
    server: McpServerSettings, tools: Iterable[RemoteTool]
) -> dict[str, tuple[ToolSpec, RemoteTool]]:
    """The tools without a fault that `allow` and `deny` leave, by the name that a model calls them
    by. Of two with one name the first stays."""
    offered: dict[str, tuple[ToolSpec, RemoteTool]] = {}
    for tool in tools:
        name = public_name(server.name, tool.name)
        if allowed(server, tool.name) and not tool.fault and name not in offered:
            spec = ToolSpec(name, tool.description, tool.parameters, tool.effects, tool.repeat)
            offered[name] = (spec, tool)
    return offered


def faults(server: McpServerSettings, tools: Iterable[RemoteTool]) -> dict[str, str]:
    """Why tools are left out that `allow` and `deny` leave, by the server's names of them."""
    return {tool.name: tool.fault for tool in tools if tool.fault and allowed(server, tool.name)}


def public_name(server: str, tool: str) -> str:
    """`SERVER__TOOL`; a longer name ends with a part of its digest."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", f"{server}__{tool}")
    if len(name) <= _LONGEST_NAME:
        return name
    digest = sha256(f"{server}__{tool}".encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}-{digest}"


def allowed(server: McpServerSettings, tool: str) -> bool:
    def named(patterns: Iterable[str]) -> bool:
        return any(fnmatchcase(tool, pattern) for pattern in patterns)

    return named(server.allow) and not named(server.deny)
