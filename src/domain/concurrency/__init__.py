"""Helpers for asyncio: work off the event loop, shielded tasks, released tracebacks."""

from .fair_threads import FairThreads
from .off_loop import LARGE, image_bytes, off_loop, take_turns
from .shielding import shielded
from .tracebacks import drop_traceback_of, drop_tracebacks
from .turns import ThisTurn

__all__ = [
    "LARGE",
    "FairThreads",
    "ThisTurn",
    "drop_traceback_of",
    "drop_tracebacks",
    "image_bytes",
    "off_loop",
    "shielded",
    "take_turns",
]
