"""Checks whether a sampled figure stays constant after a warm-up."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WARM_UP = 0.3
"""The share of the time that counts as warm-up."""
FEWEST = 4


@dataclass(frozen=True, slots=True)
class Allowance:
    """The allowed growth after the warm-up: a share of the median, or an absolute amount."""

    ratio: float
    least: float


@dataclass(frozen=True, slots=True)
class Trend:
    """The growth of a figure after the warm-up."""

    median: float
    growth: float
    """The Theil-Sen estimator: the median of the slopes between all pairs of samples, which is
    robust against outliers."""
    allowed: float

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowed


def trend(times: Sequence[float], values: Sequence[float], allowance: Allowance) -> Trend:
    """The trend after the warm-up. Raises ValueError for fewer than FEWEST samples."""
    begin = times[0] + (times[-1] - times[0]) * WARM_UP if times else 0.0
    kept = [(at, value) for at, value in zip(times, values, strict=True) if at >= begin]
    if len(kept) < FEWEST:
        raise ValueError(f"{len(kept)} samples after the warm-up are too few: {FEWEST} at least")
    pairs = itertools.combinations(kept, 2)
    slope = statistics.median((v2 - v1) / (t2 - t1) for (t1, v1), (t2, v2) in pairs)
    median = statistics.median(value for _, value in kept)
    growth = slope * (kept[-1][0] - kept[0][0])
    return Trend(median, growth, max(allowance.ratio * median, allowance.least))
