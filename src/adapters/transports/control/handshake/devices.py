"""Devices as clients see them, without secrets, and their requests as events."""

from __future__ import annotations

from typing import Any, assert_never

from .....domain.access.devices import (
    DeviceEvent,
    DeviceInfo,
    DeviceRemoved,
    DeviceToken,
    PairedDevice,
    PairingRequested,
    PairingResolved,
    PendingPairing,
    TokenRevoked,
    TokenRotated,
)
from .....domain.services import Devices
from ..broadcast import Hub


def pending_row(pairing: PendingPairing) -> dict[str, Any]:
    """A device that asks."""
    return {
        "requestId": pairing.request_id,
        "deviceId": pairing.device_id,
        "publicKey": pairing.public_key,
        **_info(pairing.info),
        "role": pairing.role.value,
        "roles": [pairing.role.value],
        "scopes": sorted(pairing.scopes),
        "reason": pairing.reason.value,
        "isRepair": pairing.is_repair,
        "ts": millis(pairing.created_at),
    }


def paired_row(device: PairedDevice) -> dict[str, Any]:
    """A device that is let in."""
    live = [token for token in device.tokens.values() if token.revoked_at is None]
    return {
        "deviceId": device.id,
        "publicKey": device.public_key,
        **_info(device.info),
        "roles": sorted(token.role.value for token in live),
        "scopes": sorted({scope for token in live for scope in token.scopes}),
        "tokens": [_token_row(token) for token in device.tokens.values()],
        "createdAtMs": millis(device.created_at),
        "approvedAtMs": millis(device.approved_at),
        **({} if device.agents is None else {"agents": sorted(device.agents)}),
    }


def millis(at: float) -> int:
    """Milliseconds of Unix time."""
    return int(at * 1_000)


def _token_row(token: DeviceToken) -> dict[str, Any]:
    times = {
        "rotatedAtMs": token.rotated_at,
        "revokedAtMs": token.revoked_at,
        "lastUsedAtMs": token.last_used_at,
    }
    return {
        "role": token.role.value,
        "scopes": sorted(token.scopes),
        "createdAtMs": millis(token.created_at),
        **{name: millis(at) for name, at in times.items() if at is not None},
    }


def _info(info: DeviceInfo) -> dict[str, Any]:
    fields = {
        "displayName": info.display_name,
        "platform": info.platform,
        "deviceFamily": info.device_family,
        "clientId": info.client_id,
        "clientMode": info.client_mode,
        "remoteIp": info.address,
    }
    return {name: text for name, text in fields.items() if text}


def broadcast_devices(devices: Devices, hub: Hub) -> None:
    """Broadcast the requests of devices and the decisions on them."""

    def broadcast(event: DeviceEvent) -> None:
        match event:
            case PairingRequested(pairing):
                hub.broadcast("device.pair.requested", pending_row(pairing))
            case PairingResolved():
                hub.broadcast("device.pair.resolved", _resolved(event))
            case TokenRotated() | TokenRevoked() | DeviceRemoved():
                pass  # Access ends the connections.
            case _:
                assert_never(event)

    devices.on_change(broadcast)


def _resolved(event: PairingResolved) -> dict[str, object]:
    return {
        "requestId": event.request_id,
        "deviceId": event.device_id,
        "decision": event.decision,
        "ts": millis(event.ts),
    }
