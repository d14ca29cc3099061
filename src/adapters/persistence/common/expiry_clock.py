"""The clock by which stores measure how long they have kept something."""

from __future__ import annotations

from dataclasses import dataclass

from ....domain.ports import Clock


@dataclass(frozen=True, slots=True)
class Stamp:
    """When something was kept: by this clock, and in Unix time."""

    expiry: float
    unix: float


class ExpiryClock:
    """Goes on with `steady`, whatever the system's clock (`unix`) is set to, and never back.

    Nothing expires early because the system's clock jumps, and things go on expiring after it was
    set back. Where the process was not running, only the system's clock says for how long: it
    counts up to a bound.
    """

    def __init__(self, unix: Clock, steady: Clock) -> None:
        self._unix = unix
        self._steady = steady
        self._offset = unix() - steady()
        self._away = 0.0

    def begin(self, newest: Stamp | None) -> None:
        """Go on where the newest thing that is kept was stamped."""
        if newest is not None:
            self._offset = newest.expiry - self._steady()
            self._away = max(0.0, self._unix() - newest.unix)

    def count_away(self, most: float) -> None:
        """Count the time before `begin` since the newest stamp too, but at most that much."""
        self._offset += min(self._away, most)
        self._away = 0.0

    def stamp(self) -> Stamp:
        """How the clocks stand, for `begin` in a later process."""
        return Stamp(self(), self._unix())

    def __call__(self) -> float:
        return self._steady() + self._offset
