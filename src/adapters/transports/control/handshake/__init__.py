"""Upgrade and handshake: origin, credentials, devices and the first answer."""

from .device_rows import millis, paired_row, pending_row
from .handshake import Admitted, Handshake
from .hello import MAX_PAYLOAD, Facts, Hello
from .origins import check_upgrade
from .pairing import tell_devices
from .peer import Peer

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
