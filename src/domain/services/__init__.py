"""The application services that transports call."""

from .access import CHANGED, CHECK_SECONDS, Access
from .active_runs import ActiveRuns
from .approvals import Approvals, may_decide
from .chat_commands import CommandRunner, Compact, KeepNewest
from .devices import EXPIRY_SECONDS, Devices
from .gateway import MAX_RUNS_LISTED, Events, Following, Gateway
from .sessions import SessionService

__all__ = [
    "CHANGED",
    "CHECK_SECONDS",
    "EXPIRY_SECONDS",
    "MAX_RUNS_LISTED",
    "Access",
    "ActiveRuns",
    "Approvals",
    "CommandRunner",
    "Compact",
    "Devices",
    "Events",
    "Following",
    "Gateway",
    "KeepNewest",
    "SessionService",
    "may_decide",
]
