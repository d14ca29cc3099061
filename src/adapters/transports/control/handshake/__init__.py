"""Upgrade and handshake: origin, credentials, devices and the first answer."""

from .devices import millis, paired_row, pending_row, tell_devices
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
    "check_upgrade",
    "millis",
    "paired_row",
    "pending_row",
    "tell_devices",
]
