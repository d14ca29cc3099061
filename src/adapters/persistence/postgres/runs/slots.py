"""How many Runs may be at work in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from .....domain.settings import LaneSettings

DEEPEST = 8
"""Sub-agents that are nested deeper share their slots with those of this depth."""


class Slots:
    """Each depth has slots of its own. A Run holds its slot while it waits for its sub-agents, so
    these must not wait for a slot of such Runs."""

    def __init__(self, limits: Callable[[], LaneSettings]) -> None:
        self._limits = limits
        self._used: Counter[int] = Counter()

    @property
    def limits(self) -> LaneSettings:
        return self._limits()

    @property
    def used(self) -> int:
        return self._used.total()

    def free(self) -> list[int]:
        """Of each depth."""
        limits = self._limits()
        most = [limits.max_concurrent] + [limits.max_subagents] * DEEPEST
        return [max(0, count - self._used[depth]) for depth, count in enumerate(most)]

    def take(self, depth: int, count: int = 1) -> None:
        self._used[depth] += count

    def give_back(self, depth: int, count: int = 1) -> None:
        self._used[depth] -= count
