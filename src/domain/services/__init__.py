"""The application services that transports call."""

from .access import CHANGED, CHECK_SECONDS, Access
from .active_runs import ActiveRuns
from .agent_sessions import (
    AgentSessions,
    Begun,
    Outcome,
    OutcomeStatus,
    SessionState,
    SubagentTask,
)
from .approvals import Approvals, may_decide
from .chat_commands import CommandRunner
from .devices import EXPIRY_SECONDS, Devices
from .gateway import MAX_RUNS_LISTED, Events, Following, Gateway
from .keys import Keys, NewKey
from .quotas import Allowance, Allowances, Quotas
from .sessions import SessionService
from .submissions import run_id_of_key
from .token_counts import Measures, TokenCounts
from .tools import CallOutcome, CallResult, DirectCall, ToolListing, ToolService

__all__ = [
    "CHANGED",
    "CHECK_SECONDS",
    "EXPIRY_SECONDS",
    "MAX_RUNS_LISTED",
    "Access",
    "ActiveRuns",
    "AgentSessions",
    "Allowance",
    "Allowances",
    "Approvals",
    "Begun",
    "CallOutcome",
    "CallResult",
    "CommandRunner",
    "Devices",
    "DirectCall",
    "Events",
    "Following",
    "Gateway",
    "Keys",
    "Measures",
    "NewKey",
    "Outcome",
    "OutcomeStatus",
    "Quotas",
    "SessionService",
    "SessionState",
    "SubagentTask",
    "TokenCounts",
    "ToolListing",
    "ToolService",
    "may_decide",
    "run_id_of_key",
]
