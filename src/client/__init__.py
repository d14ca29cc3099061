"""A client for the Gateway's control protocol.

    async with Client.connect(token="…") as client:
        run = await client.run_agent("Say hello.")
        async for event in run.events():
            ...
        print((await run.result()).text)

The package imports nothing else from the Gateway.
"""

from __future__ import annotations

from .client import Client, Decision
from .connection_manager import State
from .device import DeviceFileInvalid, DeviceIdentity, DeviceTokens
from .errors import (
    CallFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    HandshakeRefused,
    ReaderTooSlow,
    TimedOut,
)
from .events import Events
from .frames import Event
from .handshake import Hello
from .options import Backoff, Options
from .results import (
    AgentInfo,
    ApprovalInfo,
    ChatMessage,
    LogPage,
    ModelInfo,
    RunInfo,
    RunPage,
    RunResult,
    SessionInfo,
    SessionPage,
    StandingApprovalInfo,
)
from .run_events import (
    Aborted,
    CompactionEnded,
    CompactionStarted,
    Failed,
    Finished,
    Pruned,
    ReasoningDelta,
    Resumed,
    RunEvent,
    Started,
    StepDone,
    TextDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    run_text,
)
from .runs import Run

__all__ = [
    "Aborted",
    "AgentInfo",
    "ApprovalInfo",
    "Backoff",
    "CallFailed",
    "ChatMessage",
    "Client",
    "ClientError",
    "CompactionEnded",
    "CompactionStarted",
    "ConnectFailed",
    "ConnectionLost",
    "Decision",
    "DeviceFileInvalid",
    "DeviceIdentity",
    "DeviceTokens",
    "Event",
    "Events",
    "Failed",
    "Finished",
    "HandshakeRefused",
    "Hello",
    "LogPage",
    "ModelInfo",
    "Options",
    "Pruned",
    "ReaderTooSlow",
    "ReasoningDelta",
    "Resumed",
    "Run",
    "RunEvent",
    "RunInfo",
    "RunPage",
    "RunResult",
    "SessionInfo",
    "SessionPage",
    "StandingApprovalInfo",
    "Started",
    "State",
    "StepDone",
    "TextDelta",
    "TimedOut",
    "ToolFinished",
    "ToolProgress",
    "ToolStarted",
    "Waiting",
    "run_text",
]
