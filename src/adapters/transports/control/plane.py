"""Puts the control plane together: hub, handshake, transport."""

from __future__ import annotations

from ..routes import Transport
from .broadcast import Hub, Presence, tell_changes
from .connection import Handlers
from .dependencies import Dependencies
from .handshake import Handshake, Hello, tell_devices
from .health_report import HealthReport
from .transport import ConnectionDependencies, Upgrades


class ControlPlane:
    """The WebSocket half of the Gateway. `tick` and `broadcast_health` are called
    periodically by the lifecycle."""

    def __init__(self, needs: Dependencies) -> None:
        self._needs = needs
        self._gateway = needs.gateway
        presence = Presence(needs.clock, needs.facts.version)
        self.hub = Hub(gateway=needs.gateway, clock=needs.clock, presence=presence)
        self._vitals = HealthReport(
            gateway=needs.gateway,
            session_service=needs.session_service,
            check=needs.check,
            clock=needs.clock,
            version=needs.facts.version,
            store=needs.store,
        )
        self._handlers: Handlers | None = None
        tell_changes(needs.session_service, self.hub, needs.clock)
        tell_devices(needs.devices, self.hub)

    def transport(self) -> Transport:
        """WebSocket upgrades on every path."""
        needs = self._needs
        hello = Hello(needs.gateway, self.hub, needs.facts, self._vitals.brief, needs.clock)
        upgrades = Upgrades(
            ConnectionDependencies(
                gateway=needs.gateway,
                hub=self.hub,
                handshake=Handshake(needs.gateway, needs.devices),
                hello=hello,
                handlers=self.handlers,
                clock=needs.clock,
                new_id=needs.new_id,
            )
        )
        return Transport(
            "control", start=self.hub.open, stop=self.hub.close, upgrade=upgrades.enter
        )

    async def tick(self) -> None:
        """Send one tick to every client. Due every TICK_SECONDS."""
        self.hub.tick()

    async def broadcast_health(self) -> None:
        """Send one health event to every client. Due every HEALTH_SECONDS."""
        await self.hub.broadcast_health(self._vitals.health)

    def begin_shutdown(self) -> None:
        """Tell everybody that the Gateway is about to stop."""
        self.hub.begin_shutdown("The Gateway is shutting down.")

    def handlers(self) -> Handlers:
        """What answers each method, made when it is first asked for."""
        if self._handlers is None:
            from .assembly import handlers

            self._handlers = handlers(self._needs, self.hub, self._vitals)
        return self._handlers
