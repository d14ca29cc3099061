"""The response to `connect`: the Gateway's version, features, limits and present state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .....domain.access import Scope
from .....domain.ports import Clock
from .....domain.services import Gateway
from .....domain.sessions import MAIN, SessionKey
from ..broadcast import TICK_SECONDS, Hub
from ..connection import MAX_BUFFERED, Connection
from ..protocol import (
    EVENTS,
    FOR_AGENTS,
    METHODS,
    frames,
)
from .handshake import Admitted

MAX_PAYLOAD = 25 * 1024 * 1024
"""Bytes of one message after the handshake: a picture of 5 MB in base64, several times."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while the process runs. `started_at`: Unix seconds."""

    version: str
    host: str
    config_path: str
    state_dir: str
    started_at: float


@dataclass(frozen=True, slots=True)
class Hello:
    """Makes the answer."""

    gateway: Gateway
    hub: Hub
    facts: Facts
    health: Callable[[], Awaitable[Mapping[str, Any]]]
    clock: Clock

    async def to(self, connection: Connection, admitted: Admitted) -> dict[str, Any]:
        """The payload for one client; paths are for administrators."""
        hello = frames.HelloOk(
            protocol=connection.protocol,
            server=frames.Server(
                version=self.facts.version,
                conn_id=connection.id,
                host=self.facts.host if connection.protocol < 4 else None,
            ),
            features=_features(connection),
            snapshot=await self._snapshot(connection),
            auth=_auth(connection, admitted),
            policy=frames.Policy(
                max_payload=MAX_PAYLOAD,
                max_buffered_bytes=MAX_BUFFERED,
                tick_interval_ms=int(TICK_SECONDS * 1_000),
            ),
        )
        return hello.model_dump(by_alias=True, exclude_none=True)

    async def _snapshot(self, connection: Connection) -> frames.Snapshot:
        settings, presence = self.gateway.settings, self.hub.presence
        reads = connection.may_see(Scope.READ)
        admin = connection.may_see(Scope.ADMIN)
        default = self._default_agent(connection)
        return frames.Snapshot(
            presence=presence.entries() if reads else [],
            health=dict(await self.health()) if reads else {},
            state_version=frames.StateVersion(
                presence=presence.version, health=self.hub.health_version
            ),
            uptime_ms=max(0, int((self.clock() - self.facts.started_at) * 1_000)),
            config_path=self.facts.config_path if admin else None,
            state_dir=self.facts.state_dir if admin else None,
            session_defaults=frames.SessionDefaults(
                default_agent_id=default,
                main_key=MAIN,
                main_session_key=str(SessionKey(default, MAIN)),
                scope="per-sender",
            ),
            auth_mode=settings.auth.mode.value,
        )

    def _default_agent(self, connection: Connection) -> str:
        if connection.is_restricted and connection.principal.may(Scope.READ):
            return self.gateway.directory(connection.principal).default.id
        return self.gateway.settings.agents.default.id


def _features(connection: Connection) -> frames.Features:
    methods = [
        method.name
        for method in METHODS.values()
        if method.missing is None
        and method.role == connection.role
        and (method.name in FOR_AGENTS or not connection.is_restricted)
    ]
    events = [kind.name for kind in EVENTS.values() if connection.may_see(kind.scope)]
    return frames.Features(methods=methods, events=events)


def _auth(connection: Connection, admitted: Admitted) -> frames.HelloAuth:
    minted = admitted.minted
    return frames.HelloAuth(
        role=connection.role,
        scopes=sorted(connection.principal.scopes),
        device_token=None if minted is None else minted.token,
        issued_at_ms=None if minted is None else int(minted.issued_at * 1_000),
    )
