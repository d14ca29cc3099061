"""Upgrade and handshake: origin, credentials, devices and the first answer."""

from .devices import broadcast_devices, millis, paired_row, pending_row
from .handshake import Admitted, Handshake
from .hello import MAX_PAYLOAD, Facts, Hello
from .origins import Peer, check_upgrade

__all__ = [
    "MAX_PAYLOAD",
    "Admitted",
    "Facts",
    "Handshake",
    "Hello",
    "Peer",
    "broadcast_devices",
    "check_upgrade",
    "millis",
    "paired_row",
    "pending_row",
]
