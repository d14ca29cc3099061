"""The configurations that Runs were accepted with, kept for as long as such a Run is there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..ports import CurrentSettings
from ..settings import Settings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    settings: Settings
    runs: int = 0


class Generations:
    """Finds the Settings of a generation: a Run in flight ends with those it was accepted with.

    `refresh` brings the current ones up to date, where processes have one configuration.
    """

    def __init__(
        self, current: CurrentSettings, refresh: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._current = current
        self._refresh = refresh
        self._held: dict[str, _Held] = {}
        self._foreign = ""

    def hold(self, settings: Settings) -> None:
        """Keep the Settings for one more Run, until `release`."""
        held = self._held.get(settings.generation)
        if held is None:
            held = self._held[settings.generation] = _Held(settings)
        elif held.settings is not settings:
            held.settings = settings
        held.runs += 1

    def release(self, generation: str) -> None:
        """One Run less needs the generation."""
        held = self._held[generation]
        held.runs -= 1
        if not held.runs:
            del self._held[generation]

    def find(self, generation: str) -> Settings:
        """The Settings of that generation; the current ones where no Run of this process holds
        them, as for a Run that another process accepted."""
        held = self._held.get(generation)
        return self._current() if held is None else held.settings

    def holds(self, generation: str) -> bool:
        """Whether a Run of this process holds the generation."""
        return generation in self._held

    async def catch_up(self, generation: str) -> None:
        """Prepare for a Run that another process accepted: the current Settings become at least as
        new as those it was accepted with, where processes have one configuration. Elsewhere it is
        executed with those of this process, and a difference is logged."""
        if self._current().generation != generation and self._refresh is not None:
            await self._refresh()
        current = self._current().generation
        if current not in (generation, self._foreign):
            self._foreign = current
            extra = {"accepted with": generation, "executed with": current}
            logger.info("a run was accepted with another configuration", extra=extra)
