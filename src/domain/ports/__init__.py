"""What the domain needs from outside, as Protocols. Each docstring is the promise of an adapter."""

from ..sessions import Transcript
from .access import Authenticator, DeviceBook, KeyBook, KeyCounters, Limits, RunAdmission
from .clock import Clock, NewId
from .configuration import ConfigFile, ConfigurationBook
from .heartbeats import HeartbeatBook
from .knowledge import KnowledgeSource
from .metrics import Meter, Metric, MetricKind, RunCounter, RunCounts
from .models import Embedder, ModelClient
from .nodes import (
    MAX_PAYLOAD_BYTES,
    NodeBus,
    NodeDirectory,
    NodeInfo,
    OnMessage,
    PresenceBook,
    SessionChanges,
)
from .responses import ResponseBook
from .runners import NOTHING_SAID, AgentRunner, Archive, Commit, RunContext, Spent
from .runs import RunEvents, RunQueue, RunSignals, Watchers, Worker
from .sandbox import Sandbox
from .sessions import OpenTurn, SessionCatalog, SessionStore, StoredSession, SummaryLocks, Turn
from .settings import CurrentSettings
from .tools import ApprovalBook, CallBook, KeyedCall, Toolbox, ToolContext
from .web import WebClient, WebFailed, WebLimits, WebResource
from .workspaces import Workspaces

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "NOTHING_SAID",
    "AgentRunner",
    "ApprovalBook",
    "Archive",
    "Authenticator",
    "CallBook",
    "Clock",
    "Commit",
    "ConfigFile",
    "ConfigurationBook",
    "CurrentSettings",
    "DeviceBook",
    "Embedder",
    "HeartbeatBook",
    "KeyBook",
    "KeyCounters",
    "KeyedCall",
    "KnowledgeSource",
    "Limits",
    "Meter",
    "Metric",
    "MetricKind",
    "ModelClient",
    "NewId",
    "NodeBus",
    "NodeDirectory",
    "NodeInfo",
    "OnMessage",
    "OpenTurn",
    "PresenceBook",
    "ResponseBook",
    "RunAdmission",
    "RunContext",
    "RunCounter",
    "RunCounts",
    "RunEvents",
    "RunQueue",
    "RunSignals",
    "Sandbox",
    "SessionCatalog",
    "SessionChanges",
    "SessionStore",
    "Spent",
    "StoredSession",
    "SummaryLocks",
    "ToolContext",
    "Toolbox",
    "Transcript",
    "Turn",
    "Watchers",
    "WebClient",
    "WebFailed",
    "WebLimits",
    "WebResource",
    "Worker",
    "Workspaces",
]
