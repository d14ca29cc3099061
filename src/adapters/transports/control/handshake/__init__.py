"""Upgrade and handshake: origin, credentials, devices and the first answer."""

from .device_rows import millis, paired_row, pending_row
from .handshake import Admitted, Caller, Handshake
from .hello import MAX_PAYLOAD, Facts, Hello
from .origins import check_upgrade
from .pairing import tell_devices

__all__ = [
    "MAX_PAYLOAD",
    "Admitted",
    "Caller",
    "Facts",
    "Handshake",
    "Hello",
    "check_upgrade",
    "millis",
    "paired_row",
    "pending_row",
    "tell_devices",
]
