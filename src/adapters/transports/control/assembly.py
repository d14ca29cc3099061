"""Makes what answers the methods. Loaded with the first connection: a Gateway that is only spoken
to over HTTP does not wait for it at its start."""

from __future__ import annotations

from .broadcast import Hub
from .connection import Handlers, check_handlers
from .dependencies import Needs
from .health_report import Vitals
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


def handlers(needs: Needs, hub: Hub, vitals: Vitals) -> Handlers:
    """The handlers by method. Raises ValueError where they and the route table differ."""
    gateway, desk, clock = needs.gateway, needs.desk, needs.clock
    outcomes = Outcomes(gateway, desk, hub)
    commands = Commands(gateway, desk, hub, clock, needs.facts.version)
    chat = ChatMethods(gateway, desk, hub, outcomes, commands, clock)
    models = ModelMethods(gateway, clock)
    system = SystemMethods(
        gateway=gateway,
        desk=desk,
        hub=hub,
        heartbeats=Heartbeats(gateway, hub, outcomes, clock, needs.new_id),
        usage=UsageMethods(gateway, desk, clock),
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
        **history_handlers(gateway, desk, hub, commands, models.metadata),
        **session_handlers(gateway, desk, hub, chat, clock=clock, new_id=needs.new_id),
        **agent_handlers(gateway, needs.config, needs.workspaces),
        **models.handlers(),
        **MachineMethods(gateway, needs.facts, clock).handlers(),
        **config_handlers(needs.config, needs.applied),
        **device_handlers(needs.devices),
    }
    check_handlers(made)
    return made
