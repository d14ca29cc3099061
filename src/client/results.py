"""What the Gateway tells of runs, sessions, agents and models. `raw` is all that it said.

Times are Unix seconds. What a Gateway leaves out is empty or None here.
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
    """Some Runs, newest first; `next_cursor` asks for those before them."""

    runs: tuple[RunInfo, ...]
    next_cursor: str | None = None


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
    """Some Sessions, the last used first; `next_offset` asks for those after them."""

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
    """Lines of the log; `cursor` asks for what is written after them."""

    lines: tuple[str, ...]
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a Run ended. `status`: ok, error or aborted; `error` says why there is no answer.

    `payload` is the last answer to `agent`, or the same put together from the Run's events.
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


def run_info(told: Raw) -> RunInfo:
    return RunInfo(
        id=_text(told, "runId"),
        session_key=_text(told, "sessionKey"),
        agent_id=_text(told, "agentId"),
        status=_text(told, "status"),
        started_at=_seconds(told, "startedAt"),
        ended_at=_seconds(told, "endedAt"),
        last_seq=_number(told, "lastSeq") or 0,
        raw=told,
    )


def session_info(told: Raw) -> SessionInfo:
    key = _text(told, "key")
    parts = key.split(":", 2)
    return SessionInfo(
        key=key,
        agent_id=_text(told, "agentId") or (parts[1] if key.startswith("agent:") else ""),
        session_id=_text(told, "sessionId"),
        label=_text(told, "label") or _text(told, "displayName"),
        model="/".join(filter(None, (_text(told, "modelProvider"), _text(told, "model")))),
        updated_at=_seconds(told, "updatedAt"),
        total_tokens=_number(told, "totalTokens"),
        running=told.get("hasActiveRun") is True,
        raw=told,
    )


def agent_info(told: Raw, default_id: str) -> AgentInfo:
    agent_id = _text(told, "id")
    return AgentInfo(agent_id, _text(told, "name"), agent_id == default_id, told)


def model_info(told: Raw) -> ModelInfo:
    return ModelInfo(
        id=_text(told, "id"),
        name=_text(told, "name"),
        provider=_text(told, "provider"),
        context_window=_number(told, "contextWindow"),
        reasoning=told.get("reasoning") is True,
        raw=told,
    )


def chat_message(told: Raw) -> ChatMessage:
    return ChatMessage(
        _text(told, "role"), text_of(told.get("content")), _seconds(told, "timestamp"), told
    )


def text_of(content: object) -> str:
    """The text in a message's content, which is a text or a list of parts."""
    if isinstance(content, str):
        return content
    parts = (
        [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    )
    return "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


def rows(payload: object, name: str) -> list[dict[str, Any]]:
    """The list of objects under `name` in an answer."""
    listed = payload.get(name) if isinstance(payload, dict) else None
    return [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []


def _text(told: Raw, name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""


def _number(told: Raw, name: str) -> int | None:
    value = told.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(told: Raw, name: str) -> float | None:
    value = told.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value / 1_000 if is_number else None  # type: ignore[operator]
