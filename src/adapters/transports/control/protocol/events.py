"""The events of the control protocol: who may be told of each, and which may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .....domain.access import Scope


@dataclass(frozen=True, slots=True)
class EventKind:
    """`scope`: who may be told, None for everybody; `lossy`: a slow client may miss it."""

    name: str
    scope: Scope | None
    summary: str
    lossy: bool = False


EVENTS: Mapping[str, EventKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            EventKind("connect.challenge", None, "The nonce to sign, before anything else."),
            EventKind("agent", Scope.READ, "What happens in a run, numbered within it."),
            EventKind("chat", Scope.READ, "A run as a chat shows it; deltas may be lost."),
            EventKind("presence", Scope.READ, "Who is connected.", lossy=True),
            EventKind("tick", None, "The connection lives.", lossy=True),
            EventKind("health", Scope.READ, "How the Gateway is."),
            EventKind(
                "heartbeat", Scope.READ, "A run that nobody asked for has ended.", lossy=True
            ),
            EventKind("shutdown", None, "The Gateway is about to stop."),
            EventKind("sessions.changed", Scope.READ, "A session was begun or changed."),
            EventKind("session.message", Scope.READ, "A message was put into a session."),
            EventKind("device.pair.requested", Scope.PAIRING, "A device asks to be let in."),
            EventKind("device.pair.resolved", Scope.PAIRING, "It was let in, or was not."),
            EventKind("exec.approval.requested", Scope.APPROVALS, "A tool asks for leave."),
            EventKind("exec.approval.resolved", Scope.APPROVALS, "It has it, or has not."),
        )
    }
)
