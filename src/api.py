"""The public API for plugin authors; plugins of every kind import this module only.

Names of this module are stable within a minor version. Every other module of `opensoul` may change
in any release. docs/extending.md says how plugins are found.
"""

from .adapters.persistence.common import HeldSteps
from .adapters.persistence.common import decode as decode_message
from .adapters.persistence.common import encode as encode_message
from .adapters.transports import Limits, Route, Switch, Transport
from .adapters.transports.http import principal
from .domain.access import ALL_SCOPES, ClientAddress, Credential, Grant, Principal, Scope
from .domain.agents import Agent
from .domain.errors import GatewayError, InvalidRequest, RunFailed, StoreFailed
from .domain.messages import Image, Message, Reasoning, Role, Text, ToolCall, text_message
from .domain.models import ReasoningDelta, StopReason, TextDelta, Usage
from .domain.ports import (
    AgentRunner,
    Authenticator,
    ModelClient,
    RunContext,
    SessionCatalog,
    SessionStore,
    StoredSession,
    Toolbox,
    ToolContext,
    Turn,
)
from .domain.runs import (
    Aborted,
    Answered,
    EventBatch,
    Failed,
    Finished,
    OnLeave,
    Resumed,
    RunEvent,
    RunnerEvent,
    RunnerEvents,
    RunRequest,
    RunSpec,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Unknown,
    Waiting,
    error_of,
)
from .domain.services import Gateway
from .domain.sessions import (
    SessionKey,
    Summary,
    Transcript,
    estimate,
    estimate_all,
    introduced,
    newest_that_fit,
    repaired,
)
from .domain.tools import Effect, Repeat, ToolOutput, ToolResult, ToolSpec

__all__ = [
    "ALL_SCOPES",
    "Aborted",
    "Agent",
    "AgentRunner",
    "Answered",
    "Authenticator",
    "ClientAddress",
    "Credential",
    "Effect",
    "EventBatch",
    "Failed",
    "Finished",
    "Gateway",
    "GatewayError",
    "Grant",
    "HeldSteps",
    "Image",
    "InvalidRequest",
    "Limits",
    "Message",
    "ModelClient",
    "OnLeave",
    "Principal",
    "Reasoning",
    "ReasoningDelta",
    "Repeat",
    "Resumed",
    "Role",
    "Route",
    "RunContext",
    "RunEvent",
    "RunFailed",
    "RunRequest",
    "RunSpec",
    "RunnerEvent",
    "RunnerEvents",
    "Scope",
    "SessionCatalog",
    "SessionKey",
    "SessionStore",
    "Started",
    "StepDone",
    "StopReason",
    "StoreFailed",
    "StoredSession",
    "Summary",
    "Switch",
    "Text",
    "TextDelta",
    "ToolCall",
    "ToolContext",
    "ToolFinished",
    "ToolOutput",
    "ToolProgress",
    "ToolResult",
    "ToolSpec",
    "ToolStarted",
    "Toolbox",
    "Transcript",
    "Transport",
    "Turn",
    "Unknown",
    "Usage",
    "Waiting",
    "decode_message",
    "encode_message",
    "error_of",
    "estimate",
    "estimate_all",
    "introduced",
    "newest_that_fit",
    "principal",
    "repaired",
    "text_message",
]
