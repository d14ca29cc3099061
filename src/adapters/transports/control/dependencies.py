"""The dependencies of the control plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ....domain.ports import (
    Clock,
    ConfigFile,
    HeartbeatBook,
    NewId,
    NodeBus,
    NodeDirectory,
    PresenceBook,
    SessionChanges,
    Workspaces,
)
from ....domain.services import Approvals, Devices, Gateway, Keys, SessionService, ToolService
from .handshake import Facts


class LogTail(Protocol):
    @property
    def lines(self) -> tuple[str, ...]: ...

    @property
    def cursor(self) -> int: ...

    @property
    def truncated(self) -> bool: ...

    @property
    def reset(self) -> bool: ...


class ReadLog(Protocol):
    """Reads the newest lines of the log."""

    def __call__(self, cursor: int | None, *, limit: int, max_bytes: int) -> LogTail: ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """`stop` ends the process like a signal."""

    gateway: Gateway
    bus: NodeBus
    presence: PresenceBook | None
    """Where the processes of this Gateway list their clients; None: there are no others."""
    session_changes: SessionChanges | None
    """Those of all processes; None: there are no others."""
    nodes: NodeDirectory
    heartbeats: HeartbeatBook
    session_service: SessionService
    approvals: Approvals
    devices: Devices
    keys: Keys
    tools: ToolService
    config: ConfigFile
    applied: Callable[[], str]
    """The hash of the applied configuration file."""
    workspaces: Workspaces
    check: Callable[[], Awaitable[Mapping[str, str]]]
    """Returns a message per failing component, and never raises."""
    read_log: ReadLog
    log_file: Callable[[], str | None]
    stop: Callable[[], None]
    facts: Facts
    tool_servers: Callable[[], Sequence[Mapping[str, object]]]
    """The health of each MCP server; `problem` is for administrators only."""
    sandboxes: Callable[[], Awaitable[Sequence[Mapping[str, object]]]]
    """The agents that have a sandbox, and whether it is available; `problem` is for administrators
    only."""
    python_agents: Callable[[], Sequence[Mapping[str, object]]]
    """The state of each Python agent; `target` and `problem` are for administrators only."""
    store: str
    """The path of the session store; only administrators see it."""
    clock: Clock
    new_id: NewId
