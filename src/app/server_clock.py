"""The clock of a process of several: the database's time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ..domain.ports import Clock

logger = logging.getLogger(__name__)

_TOLERANCE: Final = 0.05
"""Seconds. Differences below are not corrected, so that a clock that NTP keeps is never set."""
_WORTH_A_WARNING: Final = 2.0


class ServerClock:
    """A Clock, in Unix seconds, that shows the database's time: that of the machine (`local`) plus
    the difference that was measured last. Before the first measurement it is the machine's.

    What one process decides by it (whether an approval, a key or a request for pairing has expired,
    which day a budget is for) all others decide the same way, whatever their machines' clocks show.
    """

    def __init__(self, local: Clock) -> None:
        self._local = local
        self.ahead = 0.0
        """Seconds that the database's clock is ahead of the machine's."""

    def __call__(self) -> float:
        return self._local() + self.ahead

    def measure(self) -> Callable[[float], None]:
        """Begin to ask the database for its time. What is returned is to be called with the answer,
        in Unix seconds, when it is there."""
        asked_at = self._local()

        def answered(time: float) -> None:
            took = self._local() - asked_at
            if (
                took < 0
            ):  # The machine's clock was set back meanwhile: the next measurement shows it.
                return
            ahead = time - (asked_at + took / 2)
            if abs(ahead - self.ahead) > took / 2 + _TOLERANCE:
                self._correct(ahead)

        return answered

    def _correct(self, ahead: float) -> None:
        if abs(ahead - self.ahead) > _WORTH_A_WARNING:
            extra = {"seconds_behind": round(ahead, 1)}
            logger.warning("the clock of this machine is not that of the database", extra=extra)
        self.ahead = ahead
