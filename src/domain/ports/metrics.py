"""What a process measures of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class MetricKind(StrEnum):
    """A counter only grows while the process lives; a gauge goes up and down."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value. `name`: lower-case words and `_`, with the unit last; a counter's ends with
    `_total`."""

    name: str
    help: str
    value: float
    kind: MetricKind = MetricKind.GAUGE


class Meter(Protocol):
    """Measures a part of the process, or of all processes of the Gateway."""

    async def metrics(self) -> Sequence[Metric]:
        """The values now. Raises StoreFailed."""
        ...


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Runs of all processes that have not ended. `waiting`: for a free slot. `queued`: behind
    another one of their session. `paused`: for a signal, such as a decision."""

    waiting: int = 0
    queued: int = 0
    running: int = 0
    paused: int = 0


class RunCounter(Protocol):
    async def counts(self) -> RunCounts:
        """The Runs now. Raises StoreFailed."""
        ...
