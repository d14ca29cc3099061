"""Methods that show and edit the configuration."""

from .methods import handlers
from .restarts import HELD_BACK, reload_mode, wait_applied

__all__ = [
    "HELD_BACK",
    "handlers",
    "reload_mode",
    "wait_applied",
]
