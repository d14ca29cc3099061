"""What changes about devices is told to who may know, and ends the connections it is about."""

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

INVALIDATED = 4001


def tell_devices(devices: Devices, hub: Hub) -> None:
    """Have the hub follow the book of devices from now on."""

    def tell(event: DeviceEvent) -> None:
        match event:
            case PairingRequested(pairing):
                hub.broadcast("device.pair.requested", pending_row(pairing))
            case PairingResolved():
                hub.broadcast("device.pair.resolved", _resolved(event))
            case TokenRotated(device_id, role):
                _end(hub, device_id, role, "device token rotated")
            case TokenRevoked(device_id, role):
                _end(hub, device_id, role, "device token revoked")
            case DeviceRemoved(device_id):
                _end(hub, device_id, None, "device removed")
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


def _end(hub: Hub, device_id: str, role: str | None, reason: str) -> None:
    hub.close_where(
        lambda connection: connection.device_id == device_id and role in (None, connection.role),
        INVALIDATED,
        reason,
    )
