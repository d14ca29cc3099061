"""The RunQueue and the RunSignals of one process."""

from .lanes import Lanes
from .local import LocalQueue
from .rows import RunRows

__all__ = [
    "Lanes",
    "LocalQueue",
    "RunRows",
]
