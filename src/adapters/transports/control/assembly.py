"""Creates the method handlers. Imported with the first connection, so that a Gateway that only
serves HTTP starts faster."""

from __future__ import annotations

from typing import Any

from .broadcast import Hub
from .connection import Handler, Handlers, check_handlers
from .dependencies import Dependencies
from .health_report import HealthReport
from .methods.agents import AgentFiles, AgentMethods
from .methods.approvals import ApprovalMethods
from .methods.chat import ChatMethods
from .methods.config import ConfigMethods
from .methods.devices import DeviceMethods
from .methods.history import History
from .methods.keys import KeyMethods
from .methods.machine import MachineMethods
from .methods.models import ModelMethods
from .methods.runs import RunMethods
from .methods.sessions import (
    SessionChanges,
    SessionLists,
    SessionLookups,
    SessionSearch,
    SessionSubscriptions,
    SessionTalk,
)
from .methods.system import SystemMethods
from .methods.tools import ToolMethods
from .methods.usage import SessionUsage, UsageMethods

_FAMILIES = (
    AgentFiles,
    AgentMethods,
    ApprovalMethods,
    ConfigMethods,
    DeviceMethods,
    KeyMethods,
    MachineMethods,
    RunMethods,
    SessionChanges,
    SessionLists,
    SessionLookups,
    SessionSearch,
    SessionSubscriptions,
    SessionUsage,
    ToolMethods,
    UsageMethods,
)


def handlers(dependencies: Dependencies, hub: Hub, health_report: HealthReport) -> Handlers:
    """The handlers by method. Raises ValueError if they do not match the route table."""
    chat, models = ChatMethods(dependencies, hub), ModelMethods(dependencies, hub)
    created: dict[str, Handler[Any]] = {
        **chat.handlers(),
        **models.handlers(),
        **SessionTalk(dependencies, hub, chat).handlers(),
        **History(dependencies, hub, models.metadata).handlers(),
        **SystemMethods(dependencies, hub, health_report).handlers(),
    }
    for family in _FAMILIES:
        created |= family(dependencies, hub).handlers()
    check_handlers(created)
    return created
