"""Builds the sandboxes of agents and of servers of tools."""

from __future__ import annotations

from typing import Any

from ....domain.tools import SandboxLimits, SandboxMode, SandboxPolicy, ServerSandbox
from ..errors import KeyPath, dotted
from ..read import Building
from ..schema.sandbox import AgentSandbox, SandboxLimitSettings
from ..schema.sandbox import ServerSandbox as ServerSandboxSection

_MB = 1024 * 1024
_LIMITS = {
    "max_memory_mb": ("memory", _MB),
    "max_cpu_seconds": ("cpu_seconds", 1),
    "max_file_mb": ("file_size", _MB),
    "max_processes": ("processes", 1),
    "max_temporary_mb": ("temporary", _MB),
}
"""The field of SandboxLimits for each key, and its unit."""
_DEFAULTS = ("agents", "defaults", "sandbox")
_FAMILY = (SandboxMode.NON_MAIN, SandboxMode.ALL)


def build_sandbox(building: Building, own: AgentSandbox, where: KeyPath) -> SandboxPolicy:
    """The sandbox of an agent: its own keys, else those of the defaults."""
    general = building.config.agents.defaults.sandbox

    def chosen(name: str) -> Any:
        value = getattr(own, name)
        return getattr(general, name) if value is None else value

    mode = SandboxMode(chosen("mode") or SandboxMode.OFF)
    if mode in _FAMILY and own.mode is not None:
        _note_family_mode(building, mode, where)
    return SandboxPolicy(
        mode=mode,
        network=bool(chosen("network")),
        read=tuple(building.path(path) for path in chosen("read") or ()),
        write=tuple(building.path(path) for path in chosen("write") or ()),
        limits=SandboxLimits(**{**_limits(general.limits), **_limits(own.limits)}),
    )


def note_default_sandbox(building: Building) -> None:
    mode = building.config.agents.defaults.sandbox.mode
    if mode is not None and SandboxMode(mode) in _FAMILY:
        _note_family_mode(building, SandboxMode(mode), _DEFAULTS)


def _note_family_mode(building: Building, mode: SandboxMode, where: KeyPath) -> None:
    place = dotted(building.origin((*where, "mode")))
    building.note(
        f"{place} `{mode}` does not exist here, so that `exec` and MCP servers that are programs "
        "refuse to run; use `bubblewrap`, or `off`."
    )


def build_server_sandbox(building: Building, section: ServerSandboxSection) -> ServerSandbox:
    return ServerSandbox(
        mode=None if section.mode is None else SandboxMode(section.mode),
        network=section.network,
        read=tuple(building.path(path) for path in section.read or ()),
        write=tuple(building.path(path) for path in section.write or ()),
        limits=tuple(_limits(section.limits).items()),
    )


def _limits(section: SandboxLimitSettings) -> dict[str, int]:
    values = {name: getattr(section, name) for name in _LIMITS}
    return {
        field: value * unit
        for (field, unit), value in zip(_LIMITS.values(), values.values(), strict=True)
        if value is not None
    }
