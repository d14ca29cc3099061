"""Assembles the control plane: hub, handshake, transport."""

from __future__ import annotations

from ..routes import Transport
from .broadcast import Hub, Presence, broadcast_approvals, broadcast_session_changes
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
        self.hub = Hub(gateway=dependencies.gateway, clock=dependencies.clock, presence=presence)
        self._health_report = HealthReport(dependencies)
        self._handlers: Handlers | None = None
        broadcast_session_changes(dependencies.session_service, self.hub, dependencies.clock)
        broadcast_approvals(dependencies.approvals, self.hub, dependencies.clock)
        broadcast_devices(dependencies.devices, self.hub)

    def transport(self) -> Transport:
        """WebSocket upgrades on every path."""
        upgrades = Upgrades(self._dependencies, self.hub, self._health_report.brief, self.handlers)
        return Transport(
            "control", start=self.hub.open, stop=self.hub.close, upgrade=upgrades.enter
        )

    async def tick(self) -> None:
        """Send one tick to every client. Due every TICK_SECONDS."""
        self.hub.tick()

    async def broadcast_health(self) -> None:
        """Send one health event to every client. Due every HEALTH_SECONDS."""
        await self.hub.broadcast_health(self._health_report.health)

    def begin_shutdown(self) -> None:
        """Announce that the Gateway is about to stop."""
        self.hub.begin_shutdown("The Gateway is shutting down.")

    def handlers(self) -> Handlers:
        """The method handlers, created on first use."""
        if self._handlers is None:
            from .assembly import handlers

            self._handlers = handlers(self._dependencies, self.hub, self._health_report)
        return self._handlers
