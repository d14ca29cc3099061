"""Whether a figure that was sampled over time stays level after a warm-up."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WARM_UP = 0.3
"""The part of the time whose samples do not count."""
FEWEST = 4


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a figure may grow in the time that counts: a part of its median, or so much."""

    ratio: float
    least: float


@dataclass(frozen=True, slots=True)
class Trend:
    """The growth of a figure after the warm-up."""

    median: float
    growth: float
    """By the median of the slopes between all pairs of samples (Theil and Sen), which a few
    outliers do not change."""
    allowed: float

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowed


def trend(times: Sequence[float], values: Sequence[float], allowance: Allowance) -> Trend:
    """The trend of at least FEWEST samples after the warm-up. ValueError for fewer."""
    begin = times[0] + (times[-1] - times[0]) * WARM_UP if times else 0.0
    kept = [(at, value) for at, value in zip(times, values, strict=True) if at >= begin]
    if len(kept) < FEWEST:
        raise ValueError(f"{len(kept)} samples after the warm-up are too few: {FEWEST} at least")
    pairs = itertools.combinations(kept, 2)
    slope = statistics.median((v2 - v1) / (t2 - t1) for (t1, v1), (t2, v2) in pairs)
    median = statistics.median(value for _, value in kept)
    growth = slope * (kept[-1][0] - kept[0][0])
    return Trend(median, growth, max(allowance.ratio * median, allowance.least))
