"""Lists of tool names in a policy: names, wildcards and groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .globs import matches
from .spec import BUILT_IN_SOURCE, MCP_SOURCE, ToolSpec

GROUP = "group:"
"""How the name of a group begins."""
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "group:fs": ("read", "write", "edit", "apply_patch", "list", "search"),
        "group:runtime": ("exec", "process"),
        "group:web": ("web_search", "web_fetch"),
        "group:sessions": (
            *("sessions_list", "sessions_history", "sessions_send", "sessions_spawn"),
            "session_status",
        ),
        "group:memory": ("memory_search", "memory_get", "memory_write"),
        "group:messaging": ("message",),
        "group:ui": ("browser", "canvas"),
        "group:automation": ("cron", "gateway"),
        "group:nodes": ("nodes",),
        "group:agents": ("agents_list",),
        "group:media": ("image", "image_generate", "tts"),
        "group:all": ("*",),
    }
)
"""The groups that are lists of names. Those of `_SOURCES` depend on the source of a tool."""
_SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "group:opensoul": BUILT_IN_SOURCE,
        "group:openclaw": BUILT_IN_SOURCE,
        "group:mcp": MCP_SOURCE,
        "group:plugins": "",
    }
)
"""The groups of all tools of a source; "": of the sources without a group of their own."""
GROUP_NAMES = (*GROUPS, *_SOURCES)

PROFILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "minimal": ("session_status",),
        "coding": ("group:fs", "group:runtime", "group:sessions", "group:memory", "image"),
        "messaging": (
            *("group:messaging", "sessions_list", "sessions_history", "sessions_send"),
            "session_status",
        ),
        "full": ("*",),
    }
)

_ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"bash": ("bash", "exec"), "apply-patch": ("apply-patch", "apply_patch")}
)
"""Earlier names of tools."""


@dataclass(frozen=True, slots=True)
class Names:
    """Entries of a list: the name of a tool, a pattern in which `*` stands for any characters, or
    a group. Case does not count."""

    entries: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def match(self, tool: ToolSpec) -> str | None:
        """The first entry that names the tool, as it is written in the list."""
        return next((entry for entry in self.entries if _names(entry, tool)), None)

    def may_match(self, prefix: str, source: str) -> bool:
        """Whether an entry may name a tool of the source whose name begins with the prefix."""
        return any(_may_name(entry, prefix.lower(), source) for entry in self.entries)


NO_NAMES = Names()


def _names(entry: str, tool: ToolSpec) -> bool:
    plain = entry.strip().lower()
    if plain in _SOURCES:
        source = _SOURCES[plain]
        return tool.source == source if source else tool.source not in _SOURCES.values()
    name = tool.name.lower()
    names = GROUPS.get(plain) or _ALIASES.get(plain) or (plain,)
    return any(matches(one.split("*"), name) for one in names)


def _may_name(entry: str, prefix: str, source: str) -> bool:
    plain = entry.strip().lower()
    if plain in _SOURCES:
        return _SOURCES[plain] == source
    for name in GROUPS.get(plain) or _ALIASES.get(plain) or (plain,):
        head, star, _ = name.partition("*")
        if head.startswith(prefix) or (star and prefix.startswith(head)):
            return True
    return False
