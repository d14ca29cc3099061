"""Puts the control plane together: hub, handshake, methods, transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from quart import Blueprint

from ....domain.configuration import ConfigFile
from ....domain.devices import Devices
from ....domain.gateway import Gateway
from ....domain.ports import Clock, NewId
from ....domain.session_desk import SessionDesk
from ....domain.workspaces import Workspaces
from .calls import Handlers
from .handshake import Handshake
from .heartbeats import Heartbeats
from .hello import Facts, Hello
from .hub import Hub
from .methods.agents import handlers as agent_handlers
from .methods.chat import ChatMethods
from .methods.config import handlers as config_handlers
from .methods.devices import handlers as device_handlers
from .methods.history import handlers as history_handlers
from .methods.models import handlers as model_handlers
from .methods.outcomes import Outcomes
from .methods.runs import RunMethods
from .methods.sessions import handlers as session_handlers
from .methods.sessions import tell_changes
from .methods.system import ReadLog, SystemMethods
from .methods.usage import UsageMethods
from .pairing import tell_devices
from .presence import Presence
from .transport import Parts, transport
from .vitals import Check, Vitals

logger = logging.getLogger(__name__)

AUTH_CHANGED = 4001


@dataclass(frozen=True, slots=True)
class Needs:
    """What the control plane is built on. `stop` ends the process as a signal would."""

    gateway: Gateway
    desk: SessionDesk
    devices: Devices
    config: ConfigFile
    applied: Callable[[], str]
    """The hash of the configuration file as it is in force."""
    workspaces: Workspaces
    check: Check
    read_log: ReadLog
    log_file: Callable[[], str | None]
    stop: Callable[[], None]
    facts: Facts
    store: str
    clock: Clock
    new_id: NewId


class ControlPlane:
    """The WebSocket half of the Gateway. `run` and `close` belong to who hosts it."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._gateway = needs.gateway
        presence = Presence(needs.clock, needs.facts.version)
        self.hub = Hub(gateway=needs.gateway, clock=needs.clock, presence=presence)
        self._vitals = Vitals(
            gateway=needs.gateway,
            desk=needs.desk,
            check=needs.check,
            clock=needs.clock,
            version=needs.facts.version,
            store=needs.store,
        )
        tell_changes(needs.desk, self.hub, needs.clock)
        tell_devices(needs.devices, self.hub)

    def blueprint(self) -> Blueprint:
        """The routes. Raises ValueError where handlers and route table differ."""
        needs = self._needs
        hello = Hello(needs.gateway, self.hub, needs.facts, self._vitals.brief, needs.clock)
        return transport(
            Parts(
                gateway=needs.gateway,
                hub=self.hub,
                handshake=Handshake(needs.gateway, needs.devices),
                hello=hello,
                handlers=self.handlers(),
                clock=needs.clock,
                new_id=needs.new_id,
            )
        )

    async def run(self) -> None:
        """Tick, and tell how the Gateway is. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.tick())
            tasks.create_task(self.hub.tell_health(self._vitals.health))

    def auth_changed(self) -> None:
        """End the connections that were let in by a secret that no longer counts."""
        auth = self._gateway.settings.auth
        self.hub.close_where(
            lambda connection: connection.auth is not None and connection.auth != auth,
            AUTH_CHANGED,
            "gateway auth changed",
        )

    def begin_shutdown(self) -> None:
        """Tell everybody that the Gateway is about to stop."""
        self.hub.begin_shutdown("The Gateway is shutting down.")

    async def close(self) -> None:
        """End every connection."""
        await self.hub.close()

    def handlers(self) -> Handlers:
        """What answers each method."""
        needs, hub = self._needs, self.hub
        gateway, desk, clock = needs.gateway, needs.desk, needs.clock
        outcomes = Outcomes(gateway, desk, hub)
        chat = ChatMethods(gateway, desk, hub, outcomes, clock)
        system = SystemMethods(
            gateway=gateway,
            desk=desk,
            hub=hub,
            heartbeats=Heartbeats(gateway, hub, outcomes, clock, needs.new_id),
            usage=UsageMethods(gateway, desk, clock),
            health=self._vitals.health,
            status=self._vitals.status,
            read_log=needs.read_log,
            log_file=needs.log_file,
            stop=needs.stop,
            clock=clock,
        )
        return {
            **chat.handlers(),
            **RunMethods(gateway, hub, outcomes, clock).handlers(),
            **system.handlers(),
            **history_handlers(gateway, desk, hub),
            **session_handlers(gateway, desk, hub, chat, clock=clock, new_id=needs.new_id),
            **agent_handlers(gateway, needs.config, needs.workspaces),
            **model_handlers(gateway),
            **config_handlers(needs.config, needs.applied),
            **device_handlers(needs.devices),
        }
