"""Plugins, found by entry point.

Transports, runners and authenticators are loaded where the configuration names them, sources of
tools where they are installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from ..adapters.transports import RouteTable, Transport
from ..domain.tools import BUILT_IN_SOURCE, MCP_SOURCE

if TYPE_CHECKING:
    from ..domain.ports import AgentRunner, Authenticator, Toolbox
    from ..domain.services import Gateway

TRANSPORTS = "opensoul.transports"
RUNNERS = "opensoul.runners"
AUTHENTICATORS = "opensoul.authenticators"
TOOLS = "opensoul.tools"
RESERVED_SOURCES = (BUILT_IN_SOURCE, MCP_SOURCE)
"""No plugin may have these names: rules for tools refer to them by groups."""
BUILT_IN_RUNNERS = ("native", "echo", "python")
"""The names that need no plugin; the container has an adapter for each."""

Find = Callable[[str], Iterable[EntryPoint]]
"""The installed entry points of a group."""


class PluginMissing(Exception):
    """Configuration names a plugin that is not installed; the message says which there are."""


class PluginInvalid(Exception):
    """A plugin does not bring what it has to; the message says what to change."""


def installed(group: str) -> Iterable[EntryPoint]:
    """What is installed for a group. Nothing is imported by asking."""
    return entry_points(group=group)


def with_transports(
    own: Iterable[Transport], gateway: Gateway, names: Iterable[str], find: Find = installed
) -> list[Transport]:
    """The Gateway's own transports and the named ones. Raises PluginMissing and PluginInvalid."""
    found = list(own)
    for name in names:
        made = _load(TRANSPORTS, name, find)(gateway)
        if not isinstance(made, Transport):
            raise PluginInvalid(
                f"The transport plugin {name!r} returns {type(made).__qualname__!r}. It has to "
                "return an opensoul.adapters.transports.Transport, which lists its routes with "
                "their scopes; see docs/extending.md."
            )
        found.append(made)
        try:
            RouteTable(found)
        except ValueError as error:
            raise PluginInvalid(
                f"The transport plugin {name!r} cannot be served: {error}."
            ) from None
    return found


def authenticators(names: Iterable[str], find: Find = installed) -> dict[str, Authenticator]:
    """The named authenticators, in that order. An entry point is a callable without arguments that
    makes one. Raises PluginMissing."""
    return {name: _load(AUTHENTICATORS, name, find)() for name in names}


def toolboxes(find: Find = installed) -> dict[str, Toolbox]:
    """All installed sources of tools, in the order of their names. An entry point is a callable
    without arguments that makes a Toolbox. Raises PluginInvalid."""
    made: dict[str, Toolbox] = {}
    for point in sorted(find(TOOLS), key=lambda point: point.name):
        if point.name in RESERVED_SOURCES:
            raise PluginInvalid(
                f"The tool plugin {point.name!r} ({point.value}) has the name of a source of the "
                "Gateway's own. Give its entry point another name."
            )
        try:
            made[point.name] = point.load()()
        except Exception as error:
            raise PluginInvalid(
                f"The tool plugin {point.name!r} ({point.value}) cannot be made: "
                f"{type(error).__name__}: {error}. Repair or uninstall it."
            ) from error
    return made


def runner_names(find: Find = installed) -> tuple[str, ...]:
    """What an agent's `runner` may be. Nothing is loaded by asking."""
    return (*BUILT_IN_RUNNERS, *(point.name for point in find(RUNNERS)))


class Runners(Mapping[str, "AgentRunner"]):
    """The built-in runners by name, and behind them those that are installed.

    An entry point is something to call without arguments that makes an AgentRunner; it is loaded
    when an agent first needs it, so that a changed configuration can name another one.
    """

    def __init__(self, builtin: Mapping[str, AgentRunner], find: Find = installed) -> None:
        self._ready = dict(builtin)
        self._find = find

    def __getitem__(self, name: str) -> AgentRunner:
        """Raises PluginMissing."""
        runner = self._ready.get(name)
        if runner is None:
            runner = self._ready[name] = _load(RUNNERS, name, self._find)()
        return runner

    def __iter__(self) -> Iterator[str]:
        return iter(runner_names(self._find))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _load(group: str, name: str, find: Find) -> Any:
    points = {point.name: point for point in find(group)}
    if name not in points:
        there = ", ".join(sorted(points)) or "none"
        raise PluginMissing(f"No plugin {name!r} is installed for {group} (installed: {there}).")
    return points[name].load()
