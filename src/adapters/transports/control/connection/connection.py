"""One client that is connected: who it is, what it wants to be told, and how it is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from .....domain.access import Principal, Scope
from .....domain.sessions import SessionKey
from ..protocol import ClientInfo, close_reason
from .outbox import Outbox

RESTART = 1012
"""The code to close with when the Gateway stops: what waits for the client is sent before."""


@dataclass(slots=True, eq=False)
class Connection:
    """After the handshake."""

    id: str
    principal: Principal
    role: str
    protocol: int
    client: ClientInfo
    caps: frozenset[str]
    address: str
    connected_at: float
    """Unix seconds."""
    device_id: str | None = None
    outbox: Outbox = field(default_factory=Outbox)
    sessions: set[SessionKey] = field(default_factory=set)
    """Sessions whose content it asked for; the Hub keeps it."""
    entering: Counter[SessionKey] = field(default_factory=Counter)
    """Sessions that it is about to be told of: how many of its requests are on their way there."""
    following: set[str] = field(default_factory=set)
    """Runs whose events it gets from a number on, and so not from the general telling."""
    heard: set[str] = field(default_factory=set)
    """Runs that it followed to their end, while the general telling of them is not done yet."""
    has_left: bool = False
    """Nobody is there any more; the Hub sets it."""
    _close: tuple[int, str] | None = None
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self, code: int, reason: str) -> None:
        """End the connection; the first reason counts."""
        if self._close is None:
            self._close = (code, close_reason(reason))
            self._closing.set()

    @property
    def is_closing(self) -> bool:
        return self._close is not None

    async def closed(self) -> tuple[int, str]:
        """The code and reason to close with, once somebody wants that."""
        await self._closing.wait()
        assert self._close is not None  # noqa: S101 - set before the event
        return self._close

    def follows(self, run_id: str) -> bool:
        """Whether the general telling of a Run's events would tell this client twice."""
        return run_id in self.following or run_id in self.heard

    def may_see(self, scope: Scope | None) -> bool:
        """Whether events of that scope are for this client; None: for everybody. These events
        concern the whole Gateway, so that a client restricted to agents gets none with a scope."""
        if scope is None:
            return True
        return self.role == "operator" and not self.is_restricted and self.principal.may(scope)

    @property
    def is_restricted(self) -> bool:
        """Whether the client may use some agents only."""
        return self.principal.agents is not None
