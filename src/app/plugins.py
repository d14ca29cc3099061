"""Third parties' transports and runners, found by entry point, loaded only where they are named."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

TRANSPORTS = "opensoul.transports"
RUNNERS = "opensoul.runners"


class PluginMissing(Exception):
    """Configuration names a plugin that is not installed; the message says which there are."""


def load(group: str, names: Iterable[str]) -> dict[str, Any]:
    """The objects behind the named entry points of a group. Raises PluginMissing.

    Nothing is imported but what is named: an installed package does not run by being installed.
    """
    wanted = list(names)
    if not wanted:
        return {}
    installed = {point.name: point for point in entry_points(group=group)}
    missing = [name for name in wanted if name not in installed]
    if missing:
        there = ", ".join(sorted(installed)) or "none"
        raise PluginMissing(
            f"No plugin named {', '.join(map(repr, missing))} is installed for {group} "
            f"(installed: {there})."
        )
    return {name: installed[name].load() for name in wanted}
