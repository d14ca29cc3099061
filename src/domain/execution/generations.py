"""The configurations that Runs were accepted with, kept for as long as such a Run is there."""

from __future__ import annotations

from dataclasses import dataclass

from ..ports import CurrentSettings
from ..settings import Settings


@dataclass(slots=True)
class _Held:
    settings: Settings
    runs: int = 0


class Generations:
    """Finds the Settings of a generation: a Run in flight ends with those it was accepted with."""

    def __init__(self, current: CurrentSettings) -> None:
        self._current = current
        self._held: dict[str, _Held] = {}

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
