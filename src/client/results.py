"""Typed results of the Gateway's methods. `raw` is the whole payload.

Times are Unix seconds. Fields that the payload lacks are empty or None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A Run. `status`: queued, running, finished, failed, aborted or interrupted."""

    id: str
    session_key: str
    agent_id: str
    status: str
    started_at: float | None = None
    ended_at: float | None = None
    last_seq: int = 0
    raw: Raw = field(default_factory=dict, repr=False)

    @property
    def live(self) -> bool:
        return self.status in ("queued", "running")


@dataclass(frozen=True, slots=True)
class RunPage:
    """A page of Runs, newest first; `next_cursor` requests the next, older page."""

    runs: tuple[RunInfo, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class ApprovalInfo:
    """A tool call that waits for a decision, or had one. `arguments`: a text where the model wrote
    no valid JSON. `decision`: empty, allow-once, allow-always, deny or expired."""

    id: str
    tool: str
    arguments: object
    run_id: str
    agent_id: str
    session_key: str
    created_at: float | None = None
    expires_at: float | None = None
    decision: str = ""
    raw: Raw = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class StandingApprovalInfo:
    """What `allow-always` has allowed: an agent's calls of a tool with these arguments."""

    id: str
    agent_id: str
    tool: str
    arguments: object
    granted_by: str
    granted_at: float | None = None
    raw: Raw = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    key: str
    agent_id: str
    session_id: str
    label: str
    model: str
    updated_at: float | None = None
    total_tokens: int | None = None
    running: bool = False
    raw: Raw = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of Sessions, most recently used first; `next_offset` requests the next page."""

    sessions: tuple[SessionInfo, ...]
    next_offset: int | None = None


@dataclass(frozen=True, slots=True)
class AgentInfo:
    id: str
    name: str
    default: bool
    raw: Raw = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    id: str
    name: str
    provider: str
    context_window: int | None = None
    reasoning: bool = False
    raw: Raw = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message of a Session's transcript."""

    role: str
    text: str
    at: float | None = None
    raw: Raw = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of the log; `cursor` requests the lines after them."""

    lines: tuple[str, ...]
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a Run ended. `status`: ok, error or aborted; `error` is the message of a failure.

    `payload` is the final response to `agent`, or an equivalent built from the Run's events.
    """

    run_id: str
    session_key: str
    status: str
    text: str
    error: str = ""
    code: str = ""
    stop: str = ""
    model: str = ""
    usage: Raw = field(default_factory=dict)
    payload: Raw = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A process of a Gateway. `differs`: its configuration is another one than most have."""

    name: str
    role: str
    version: str
    host: str
    address: str
    configuration: str
    differs: bool
    alive: bool
    started_at: float | None = None
    seen_at: float | None = None
    runs: int = 0
    unable: Raw = field(default_factory=dict)
    """The agents that it does not execute, with what it lacks."""
    raw: Raw = field(default_factory=dict, repr=False)


def node_info(payload: Raw) -> NodeInfo:
    return NodeInfo(
        name=_text(payload, "name"),
        role=_text(payload, "role"),
        version=_text(payload, "version"),
        host=_text(payload, "host"),
        address=_text(payload, "address"),
        configuration=_text(payload, "configuration"),
        differs=payload.get("differs") is True,
        alive=payload.get("alive") is not False,
        started_at=_seconds(payload, "startedAt"),
        seen_at=_seconds(payload, "seenAt"),
        runs=_number(payload, "runs") or 0,
        unable=_object(payload, "unable"),
        raw=payload,
    )


def run_info(payload: Raw) -> RunInfo:
    return RunInfo(
        id=_text(payload, "runId"),
        session_key=_text(payload, "sessionKey"),
        agent_id=_text(payload, "agentId"),
        status=_text(payload, "status"),
        started_at=_seconds(payload, "startedAt"),
        ended_at=_seconds(payload, "endedAt"),
        last_seq=_number(payload, "lastSeq") or 0,
        raw=payload,
    )


def approval_info(payload: Raw) -> ApprovalInfo:
    return ApprovalInfo(
        id=_text(payload, "id"),
        tool=_text(payload, "tool"),
        arguments=payload.get("arguments"),
        run_id=_text(payload, "runId"),
        agent_id=_text(payload, "agentId"),
        session_key=_text(payload, "sessionKey"),
        created_at=_seconds(payload, "createdAt"),
        expires_at=_seconds(payload, "expiresAt"),
        decision=_text(payload, "decision"),
        raw=payload,
    )


def standing_approval_info(payload: Raw) -> StandingApprovalInfo:
    return StandingApprovalInfo(
        id=_text(payload, "id"),
        agent_id=_text(payload, "agentId"),
        tool=_text(payload, "tool"),
        arguments=payload.get("arguments"),
        granted_by=_text(payload, "grantedBy"),
        granted_at=_seconds(payload, "grantedAt"),
        raw=payload,
    )


def session_info(payload: Raw) -> SessionInfo:
    key = _text(payload, "key")
    parts = key.split(":", 2)
    return SessionInfo(
        key=key,
        agent_id=_text(payload, "agentId") or (parts[1] if key.startswith("agent:") else ""),
        session_id=_text(payload, "sessionId"),
        label=_text(payload, "label") or _text(payload, "displayName"),
        model="/".join(filter(None, (_text(payload, "modelProvider"), _text(payload, "model")))),
        updated_at=_seconds(payload, "updatedAt"),
        total_tokens=_number(payload, "totalTokens"),
        running=payload.get("hasActiveRun") is True,
        raw=payload,
    )


def agent_info(payload: Raw, default_id: str) -> AgentInfo:
    agent_id = _text(payload, "id")
    return AgentInfo(agent_id, _text(payload, "name"), agent_id == default_id, payload)


def model_info(payload: Raw) -> ModelInfo:
    return ModelInfo(
        id=_text(payload, "id"),
        name=_text(payload, "name"),
        provider=_text(payload, "provider"),
        context_window=_number(payload, "contextWindow"),
        reasoning=payload.get("reasoning") is True,
        raw=payload,
    )


def chat_message(payload: Raw) -> ChatMessage:
    return ChatMessage(
        _text(payload, "role"),
        text_of(payload.get("content")),
        _seconds(payload, "timestamp"),
        payload,
    )


def text_of(content: object) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    texts = (part for part in _objects(content) if part.get("type") == "text")
    return "".join(str(part.get("text", "")) for part in texts)


def rows(payload: object, name: str) -> list[dict[str, Any]]:
    """The list of objects under `name` in a payload."""
    return _objects(payload.get(name)) if isinstance(payload, dict) else []


def _objects(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _object(payload: Raw, name: str) -> Raw:
    value = payload.get(name)
    return value if isinstance(value, dict) else {}


def _text(payload: Raw, name: str) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) else ""


def _number(payload: Raw, name: str) -> int | None:
    value = payload.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(payload: Raw, name: str) -> float | None:
    value = payload.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value / 1_000 if is_number else None  # type: ignore[operator]
