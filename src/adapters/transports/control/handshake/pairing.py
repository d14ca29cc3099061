"""Requests of devices as events of the control protocol."""

from __future__ import annotations

from typing import assert_never

from .....domain.access.devices import (
    DeviceEvent,
    DeviceRemoved,
    PairingRequested,
    PairingResolved,
    TokenRevoked,
    TokenRotated,
)
from .....domain.services import Devices
from ..broadcast import Hub
from .device_rows import millis, pending_row


def tell_devices(devices: Devices, hub: Hub) -> None:
    """Broadcast the requests of devices and the decisions on them."""

    def tell(event: DeviceEvent) -> None:
        match event:
            case PairingRequested(pairing):
                hub.broadcast("device.pair.requested", pending_row(pairing))
            case PairingResolved():
                hub.broadcast("device.pair.resolved", _resolved(event))
            case TokenRotated() | TokenRevoked() | DeviceRemoved():
                pass  # Access ends the connections.
            case _:
                assert_never(event)

    devices.on_change(tell)


def _resolved(event: PairingResolved) -> dict[str, object]:
    return {
        "requestId": event.request_id,
        "deviceId": event.device_id,
        "decision": event.decision,
        "ts": millis(event.ts),
    }
