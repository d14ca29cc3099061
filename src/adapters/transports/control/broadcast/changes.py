"""What changes about sessions is told to those who may know."""

from __future__ import annotations

from collections.abc import Callable

from .....domain.ports import Clock
from .....domain.services import SessionService
from .....domain.sessions import SessionKey
from .hub import Hub


def tell_changes(session_service: SessionService, hub: Hub, clock: Clock) -> Callable[[], None]:
    """Have everybody told of changed Sessions, and those who want to know of a Session that a
    message was put into it; what is returned ends that. Neither event has content."""

    def changed(key: SessionKey, change: str) -> None:
        ts = int(clock() * 1_000)
        told = {"key": str(key), "sessionKey": str(key), "agentId": key.agent_id, "ts": ts}
        hub.broadcast("sessions.changed", {**told, "change": change, "reason": change})
        if change == "deleted":
            hub.forget_restricted(key)
        if change == "injected":
            hub.tell_session(key, "session.message", told)

    return session_service.on_change(changed)
