"""The RunQueue and the RunSignals of one process."""

from .lanes import Lanes
from .local import LocalQueue
from .rows import KeptSpec, RunRows

__all__ = [
    "KeptSpec",
    "Lanes",
    "LocalQueue",
    "RunRows",
]
