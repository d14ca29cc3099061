"""What replaces or extends the inside of hypercorn, each with its reason; see docs/decisions.md."""

from .peers import PeerConnections
from .websocket_reader import TimedConfig, Timing

__all__ = [
    "PeerConnections",
    "TimedConfig",
    "Timing",
]
