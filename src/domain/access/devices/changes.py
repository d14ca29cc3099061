"""The events between two states of the devices, for subscribers of a node that another one has
changed."""

from __future__ import annotations

from collections.abc import Iterator

from .pairing import PENDING_SECONDS
from .records import (
    DeviceEvent,
    DeviceRemoved,
    DeviceState,
    PairedDevice,
    PairingRequested,
    PairingResolved,
    PendingPairing,
    TokenRevoked,
    TokenRotated,
)


def events_between(before: DeviceState, after: DeviceState, at: float) -> tuple[DeviceEvent, ...]:
    """What has happened to the devices and to their requests."""
    return (*_device_events(before, after), *_pairing_events(before, after, at))


def _device_events(before: DeviceState, after: DeviceState) -> Iterator[DeviceEvent]:
    for device in before.paired.values():
        present = after.paired.get(device.id)
        if present is None:
            yield DeviceRemoved(device.id, tuple(device.tokens))
        elif present is not device:
            yield from _token_events(device, present)


def _token_events(before: PairedDevice, after: PairedDevice) -> Iterator[DeviceEvent]:
    for role, token in before.tokens.items():
        present = after.tokens.get(role)
        if token.revoked_at is not None:
            continue
        if present is None or present.revoked_at is not None:
            yield TokenRevoked(before.id, role)
        elif (present.revision, present.created_at) != (token.revision, token.created_at):
            yield TokenRotated(before.id, role)


def _pairing_events(before: DeviceState, after: DeviceState, at: float) -> Iterator[DeviceEvent]:
    for device_id, pairing in before.pending.items():
        present = after.pending.get(device_id)
        if present is None or present.request_id != pairing.request_id:
            decision = _decision(pairing, present, after.paired.get(device_id), at)
            yield PairingResolved(pairing.request_id, device_id, decision, at)
    for device_id, pairing in after.pending.items():
        known = before.pending.get(device_id)
        if known is None or known.request_id != pairing.request_id:
            yield PairingRequested(pairing)


def _decision(
    pairing: PendingPairing, present: PendingPairing | None, device: PairedDevice | None, at: float
) -> str:
    if device is not None and device.approved_at >= pairing.created_at:
        return "approved"
    if present is not None:
        return "superseded"
    return "expired" if pairing.created_at + PENDING_SECONDS <= at else "rejected"
