"""Makes what answers the methods. Loaded with the first connection: a Gateway that is only spoken
to over HTTP does not wait for it at its start."""

from __future__ import annotations

from .broadcast import Hub
from .connection import Handlers, check_handlers
from .dependencies import Dependencies
from .health_report import HealthReport
from .methods.agents import handlers as agent_handlers
from .methods.chat import ChatMethods, Commands
from .methods.chat import handlers as history_handlers
from .methods.config import handlers as config_handlers
from .methods.devices import handlers as device_handlers
from .methods.heartbeats import Heartbeats
from .methods.machine import MachineMethods
from .methods.models import ModelMethods
from .methods.payloads import Outcomes
from .methods.runs import RunMethods
from .methods.sessions import handlers as session_handlers
from .methods.system import SystemMethods
from .methods.usage import UsageMethods


def handlers(needs: Dependencies, hub: Hub, vitals: HealthReport) -> Handlers:
    """The handlers by method. Raises ValueError where they and the route table differ."""
    gateway, session_service, clock = needs.gateway, needs.session_service, needs.clock
    outcomes = Outcomes(gateway, session_service, hub)
    commands = Commands(gateway, session_service, hub, clock, needs.facts.version)
    chat = ChatMethods(gateway, session_service, hub, outcomes, commands, clock)
    models = ModelMethods(gateway, clock)
    system = SystemMethods(
        gateway=gateway,
        session_service=session_service,
        hub=hub,
        heartbeats=Heartbeats(gateway, hub, outcomes, clock, needs.new_id),
        usage=UsageMethods(gateway, session_service, clock),
        health=vitals.health,
        status=vitals.status,
        read_log=needs.read_log,
        log_file=needs.log_file,
        stop=needs.stop,
        clock=clock,
    )
    made: Handlers = {
        **chat.handlers(),
        **RunMethods(gateway, hub, outcomes, clock).handlers(),
        **system.handlers(),
        **history_handlers(gateway, session_service, hub, commands, models.metadata),
        **session_handlers(gateway, session_service, hub, chat, clock=clock, new_id=needs.new_id),
        **agent_handlers(gateway, needs.config, needs.workspaces),
        **models.handlers(),
        **MachineMethods(gateway, needs.facts, clock).handlers(),
        **config_handlers(needs.config, needs.applied),
        **device_handlers(needs.devices),
    }
    check_handlers(made)
    return made
