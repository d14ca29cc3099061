"""Builds the rules for tools from `tools`, `agents.list[].tools` and `gateway.tools`."""

from __future__ import annotations

from types import MappingProxyType

from ....domain.tools import (
    GROUP,
    GROUP_NAMES,
    Ask,
    ExecRules,
    Names,
    Security,
    ToolRules,
)
from ..errors import KeyPath, dotted
from ..read import Building, nearest
from ..schema.tools import ExecTool, ProviderTools, ToolLists, ToolsSection


def build_tool_rules(building: Building, tools: ToolsSection, where: KeyPath) -> ToolRules:
    """The rules of one `tools` object, which is at the path `where`."""
    plain = _plain(building, tools, where)
    by_provider = {
        name.strip().lower(): _plain(building, rules, (*where, "byProvider", name))
        for name, rules in tools.by_provider.items()
    }
    limits = tools.subagents.tools
    subagents = None
    if limits != ToolLists():
        place = (*where, "subagents", "tools")
        subagents = ToolRules(
            allow=_optional(building, limits.allow, (*place, "allow")),
            deny=_optional(building, limits.deny, (*place, "deny")),
        )
    return ToolRules(
        profile=plain.profile,
        allow=plain.allow,
        also_allow=plain.also_allow,
        deny=plain.deny,
        ask=plain.ask,
        by_provider=MappingProxyType(by_provider),
        subagents=subagents,
        exec=_exec(tools.exec),
    )


def build_direct_tools(building: Building) -> Names:
    """The tools that clients may call without a run."""
    allow = building.config.gateway.tools.invoke.allow
    return _names(building, allow, ("gateway", "tools", "invoke", "allow"))


def _plain(building: Building, tools: ProviderTools, where: KeyPath) -> ToolRules:
    return ToolRules(
        profile=tools.profile,
        allow=_optional(building, tools.allow, (*where, "allow")),
        also_allow=_names(building, tools.also_allow, (*where, "alsoAllow")),
        deny=_optional(building, tools.deny, (*where, "deny")),
        ask=_names(building, tools.ask, (*where, "ask")),
    )


def _optional(building: Building, entries: list[str] | None, where: KeyPath) -> Names | None:
    return None if entries is None else _names(building, entries, where)


def _names(building: Building, entries: list[str], where: KeyPath) -> Names:
    """The list. A group of a later release has no effect; a misspelled one is an error."""
    for i, entry in enumerate(entries):
        plain = entry.strip().lower()
        if not plain.startswith(GROUP) or plain in GROUP_NAMES:
            continue
        known = [name.removeprefix(GROUP) for name in GROUP_NAMES]
        meant = nearest(plain.removeprefix(GROUP), known)
        if meant is None:
            building.note(f"{dotted(where)} names the group `{entry}`, which has no tools here.")
        else:
            message = f"there is no group `{entry}`; did you mean `{GROUP}{meant}`?"
            building.report(message, *where, i)
    return Names(tuple(entries))


def _exec(tools: ExecTool) -> ExecRules:
    return ExecRules(
        security=None if tools.security is None else Security(tools.security),
        ask=None if tools.ask is None else Ask(tools.ask),
        allowlist=None if tools.allowlist is None else tuple(tools.allowlist),
    )
