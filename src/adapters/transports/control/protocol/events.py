"""The table of the control protocol's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .....domain.access import Scope


@dataclass(frozen=True, slots=True)
class EventKind:
    """`scope`: required to receive it, None: no scope; `lossy`: dropped for slow clients."""

    name: str
    scope: Scope | None
    summary: str
    lossy: bool = False


EVENTS: Mapping[str, EventKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            EventKind(
                "connect.challenge", None, "The nonce to sign; the first event of a connection."
            ),
            EventKind("agent", Scope.READ, "An event of a run, numbered within the run."),
            EventKind("chat", Scope.READ, "A run as a chat message; deltas may be dropped."),
            EventKind("presence", Scope.READ, "The connected clients.", lossy=True),
            EventKind("tick", None, "A periodic sign of life.", lossy=True),
            EventKind("health", Scope.READ, "The health of the Gateway."),
            EventKind("heartbeat", Scope.READ, "A run started by `wake` has ended.", lossy=True),
            EventKind("shutdown", None, "The Gateway is about to stop."),
            EventKind("sessions.changed", Scope.READ, "A session was created or changed."),
            EventKind("session.message", Scope.READ, "A message was injected into a session."),
            EventKind("device.pair.requested", Scope.PAIRING, "A device requests pairing."),
            EventKind(
                "device.pair.resolved", Scope.PAIRING, "A pairing request was approved or rejected."
            ),
            EventKind("exec.approval.requested", Scope.APPROVALS, "A tool call requires approval."),
            EventKind(
                "exec.approval.resolved", Scope.APPROVALS, "A tool call was approved or denied."
            ),
        )
    }
)
