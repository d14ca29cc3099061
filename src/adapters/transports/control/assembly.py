"""Creates the method handlers. Imported with the first connection, so that a Gateway that only
serves HTTP starts faster."""

from __future__ import annotations

from .broadcast import Hub
from .connection import Handlers, check_handlers
from .dependencies import Dependencies
from .health_report import HealthReport
from .methods.agents import handlers as agent_handlers
from .methods.chat import ChatMethods
from .methods.commands import Commands
from .methods.config import handlers as config_handlers
from .methods.devices import handlers as device_handlers
from .methods.heartbeats import Heartbeats
from .methods.history import handlers as history_handlers
from .methods.machine import MachineMethods
from .methods.models import ModelMethods
from .methods.outcomes import Outcomes
from .methods.runs import RunMethods
from .methods.sessions import handlers as session_handlers
from .methods.system import SystemMethods
from .methods.usage import UsageMethods


def handlers(dependencies: Dependencies, hub: Hub, health_report: HealthReport) -> Handlers:
    """The handlers by method. Raises ValueError if they do not match the route table."""
    gateway, session_service, clock = (
        dependencies.gateway,
        dependencies.session_service,
        dependencies.clock,
    )
    outcomes = Outcomes(gateway, session_service, hub)
    commands = Commands(gateway, session_service, hub, clock, dependencies.facts.version)
    chat = ChatMethods(gateway, session_service, hub, outcomes, commands, clock)
    models = ModelMethods(gateway, clock)
    system = SystemMethods(
        gateway=gateway,
        session_service=session_service,
        hub=hub,
        heartbeats=Heartbeats(gateway, hub, outcomes, clock, dependencies.new_id),
        usage=UsageMethods(gateway, session_service, clock),
        health=health_report.health,
        status=health_report.status,
        read_log=dependencies.read_log,
        log_file=dependencies.log_file,
        stop=dependencies.stop,
        clock=clock,
    )
    created: Handlers = {
        **chat.handlers(),
        **RunMethods(gateway, hub, outcomes, clock).handlers(),
        **system.handlers(),
        **history_handlers(gateway, session_service, hub, commands, models.metadata),
        **session_handlers(
            gateway, session_service, hub, chat, clock=clock, new_id=dependencies.new_id
        ),
        **agent_handlers(gateway, dependencies.config, dependencies.workspaces),
        **models.handlers(),
        **MachineMethods(gateway, dependencies.facts, clock).handlers(),
        **config_handlers(dependencies.config, dependencies.applied),
        **device_handlers(dependencies.devices),
    }
    check_handlers(created)
    return created
