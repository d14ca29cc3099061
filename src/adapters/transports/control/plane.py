"""Assembles the control plane: hub, handshake, transport."""

from __future__ import annotations

from ..routes import Transport
from .broadcast import Hub, OtherNodes, Presence, SharedPresence, broadcast_approvals
from .connection import Handlers
from .dependencies import Dependencies
from .handshake import broadcast_devices
from .health_report import HealthReport
from .transport import Upgrades


class ControlPlane:
    """The WebSocket half of the Gateway. `tick` and `broadcast_health` are called
    periodically by the lifecycle."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        presence = Presence(dependencies.clock, dependencies.facts.version)
        gateway, sessions = dependencies.gateway, dependencies.session_service
        self.hub = Hub(
            gateway=gateway,
            clock=dependencies.clock,
            presence=presence,
            shared=dependencies.bus.shared,
        )
        self._health_report = HealthReport(dependencies)
        self._handlers: Handlers | None = None
        sessions.on_change(self.hub.session_changed)
        self._other_nodes = OtherNodes(
            dependencies.bus, self.hub, gateway, sessions, dependencies.session_changes
        )
        book = dependencies.presence
        self._shared_presence = (
            None
            if book is None
            else SharedPresence(dependencies.bus, book, presence, self.hub.schedule_presence)
        )
        broadcast_approvals(dependencies.approvals, self.hub, dependencies.clock)
        broadcast_devices(dependencies.devices, self.hub)

    def transport(self) -> Transport:
        """WebSocket upgrades on every path."""
        upgrades = Upgrades(self._dependencies, self.hub, self._health_report.brief, self.handlers)
        return Transport("control", start=self._open, stop=self._close, upgrade=upgrades.enter)

    async def _open(self) -> None:
        await self.hub.open()
        if self._shared_presence is not None:
            await self._shared_presence.open()

    async def _close(self) -> None:
        await self.hub.close()
        if self._shared_presence is not None:
            await self._shared_presence.close()

    async def tick(self) -> None:
        """Send one tick to every client. Due every TICK_SECONDS."""
        self.hub.tick()

    async def broadcast_health(self) -> None:
        """Send one health event to every client. Due every HEALTH_SECONDS."""
        await self.hub.broadcast_health(self._health_report.health)

    async def look_at_other_nodes(self) -> None:
        """Make up for lost messages of other processes. Due every NODES_SECONDS."""
        await self._other_nodes.look()
        if self._shared_presence is not None:
            await self._shared_presence.beat()

    def begin_shutdown(self) -> None:
        """Announce that the Gateway is about to stop."""
        self.hub.begin_shutdown("The Gateway is shutting down.")

    def handlers(self) -> Handlers:
        """The method handlers, created on first use."""
        if self._handlers is None:
            from .assembly import handlers

            self._handlers = handlers(self._dependencies, self.hub, self._health_report)
        return self._handlers
