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
from .direct_calls import CallOutcome, CallResult, DirectCall, KeyedCalls
from .embeddings import Embedded, EmbeddingService
from .gateway import MAX_RUNS_LISTED, Events, Following, Gateway
from .keys import Keys, NewKey
from .model_calls import ModelCalls
from .quotas import Allowance, Allowances, Quotas
from .responses import CONVERSATION, Responses, after, conversation_locked, repeated_item
from .sessions import SessionService
from .shared_copy import RENEWAL_SECONDS
from .submissions import run_id_of_key
from .token_counts import Measures, TokenCounts
from .tools import ToolListing, ToolService

__all__ = [
    "CHANGED",
    "CHECK_SECONDS",
    "CONVERSATION",
    "EXPIRY_SECONDS",
    "MAX_RUNS_LISTED",
    "RENEWAL_SECONDS",
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
    "Embedded",
    "EmbeddingService",
    "Events",
    "Following",
    "Gateway",
    "KeyedCalls",
    "Keys",
    "Measures",
    "ModelCalls",
    "NewKey",
    "Outcome",
    "OutcomeStatus",
    "Quotas",
    "Responses",
    "SessionService",
    "SessionState",
    "SubagentTask",
    "TokenCounts",
    "ToolListing",
    "ToolService",
    "after",
    "conversation_locked",
    "may_decide",
    "repeated_item",
    "run_id_of_key",
]
