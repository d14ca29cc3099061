"""How long to wait before trying once more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds: the first wait, the longest one, and how long to go on trying; None: for ever.

    Each wait is `factor` times the one before, and up to `jitter` of itself shorter, so that
    many clients do not come back at the same moment.
    """

    first: float = 1.0
    factor: float = 1.5
    longest: float = 10.0
    jitter: float = 0.25
    give_up_after: float | None = 120.0

    def waits(self) -> Iterator[float]:
        """The waits, without end."""
        wait = self.first
        while True:
            yield wait * (1 - self.jitter * random.random())  # noqa: S311 - no secret
            wait = min(wait * self.factor, self.longest)
