"""What a node reports of the devices that another node has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from opensoul.domain.access import Scope
from opensoul.domain.access.devices import (
    DeviceEvent,
    DeviceInfo,
    DeviceRemoved,
    DeviceState,
    DeviceToken,
    PairedDevice,
    PairingReason,
    PairingRequested,
    PairingResolved,
    PendingPairing,
    Role,
    TokenRevoked,
    TokenRotated,
    events_between,
)

NOW = 1_000.0
SCOPES = frozenset({Scope.READ})
TOKEN = DeviceToken(Role.OPERATOR, SCOPES, 1.0, digest="d", due=False)
DEVICE = PairedDevice("d1", "key", DeviceInfo(), {Role.OPERATOR: TOKEN}, 1.0, 1.0)
REQUEST = PendingPairing(
    "r1", "d1", "key", Role.OPERATOR, SCOPES, DeviceInfo(), PairingReason.NOT_PAIRED, False, 900.0
)
OTHER_REQUEST = replace(REQUEST, request_id="r2", created_at=950.0)
APPROVED = replace(DEVICE, approved_at=950.0)


def paired(**changes: Any) -> DeviceState:
    token = replace(TOKEN, **changes)
    return DeviceState({"d1": replace(DEVICE, tokens={Role.OPERATOR: token})})


def waiting(pairing: PendingPairing) -> DeviceState:
    return DeviceState(pending={"d1": pairing})


def resolved(decision: str) -> PairingResolved:
    return PairingResolved("r1", "d1", decision, NOW)


REVOKED = paired(revoked_at=9.0, digest="", revision=1)


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (DeviceState(), paired(), []),
        (paired(), paired(last_used_at=5.0), []),
        (paired(), paired(digest="e", rotated_at=5.0), []),
        (paired(), paired(digest="e", revision=1), [TokenRotated("d1", Role.OPERATOR)]),
        (paired(), paired(created_at=2.0), [TokenRotated("d1", Role.OPERATOR)]),
        (paired(), REVOKED, [TokenRevoked("d1", Role.OPERATOR)]),
        (REVOKED, REVOKED, []),
        (REVOKED, paired(revision=1), []),
        (paired(), DeviceState(), [DeviceRemoved("d1", (Role.OPERATOR,))]),
        (DeviceState(), waiting(REQUEST), [PairingRequested(REQUEST)]),
        (waiting(REQUEST), waiting(replace(REQUEST, info=DeviceInfo("phone"))), []),
        (waiting(REQUEST), DeviceState({"d1": APPROVED}), [resolved("approved")]),
        (waiting(REQUEST), DeviceState({"d1": DEVICE}), [resolved("rejected")]),
        (waiting(REQUEST), DeviceState(), [resolved("rejected")]),
        (waiting(replace(REQUEST, created_at=700.0)), DeviceState(), [resolved("expired")]),
        (
            waiting(REQUEST),
            waiting(OTHER_REQUEST),
            [resolved("superseded"), PairingRequested(OTHER_REQUEST)],
        ),
    ],
)
def test_the_events_of_a_change(
    before: DeviceState, after: DeviceState, events: list[DeviceEvent]
) -> None:
    assert list(events_between(before, after, NOW)) == events
