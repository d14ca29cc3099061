"""What a client asks most, with typed answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from . import results as told


class Queries(ABC):
    """The methods that every client has beside `call`. They raise what `call` raises."""

    @abstractmethod
    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = 30.0,  # noqa: ASYNC109 - part of the promise
    ) -> Any:
        """The answer to a request."""
        ...

    async def runs(
        self,
        *,
        session_key: str | None = None,
        agent_id: str | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> told.RunPage:
        """Runs, newest first."""
        params = _given(
            sessionKey=session_key, agentId=agent_id, status=status, limit=limit, cursor=cursor
        )
        answer = await self.call("runs.list", params)
        listed = tuple(map(told.run_info, told.rows(answer, "runs")))
        following = answer.get("nextCursor") if isinstance(answer, dict) else None
        return told.RunPage(listed, following if isinstance(following, str) else None)

    async def run(self, run_id: str) -> told.RunInfo:
        """One Run."""
        return told.run_info(await self.call("runs.get", {"runId": run_id}))

    async def abort_run(self, run_id: str) -> bool:
        """Stop a Run. False where there is nothing left to stop."""
        answer = await self.call("runs.abort", {"runId": run_id})
        return isinstance(answer, dict) and answer.get("aborted") is True

    async def sessions(
        self,
        *,
        agent_id: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> told.SessionPage:
        """Sessions, the last used first."""
        params = _given(agentId=agent_id, search=search, limit=limit, offset=offset)
        answer = await self.call("sessions.list", params)
        listed = tuple(map(told.session_info, told.rows(answer, "sessions")))
        following = answer.get("nextOffset") if isinstance(answer, dict) else None
        return told.SessionPage(listed, following if isinstance(following, int) else None)

    async def agents(self) -> tuple[told.AgentInfo, ...]:
        """The agents."""
        answer = await self.call("agents.list", {})
        default = str(answer.get("defaultId", "")) if isinstance(answer, dict) else ""
        return tuple(told.agent_info(row, default) for row in told.rows(answer, "agents"))

    async def models(self) -> tuple[told.ModelInfo, ...]:
        """The configured models."""
        return tuple(map(told.model_info, told.rows(await self.call("models.list", {}), "models")))

    async def history(self, session_key: str, *, limit: int = 200) -> tuple[told.ChatMessage, ...]:
        """A Session's newest messages, the oldest of them first. From then on this connection is
        told what happens in the Session."""
        answer = await self.call("chat.history", {"sessionKey": session_key, "limit": limit})
        return tuple(map(told.chat_message, told.rows(answer, "messages")))

    async def logs(self, *, limit: int = 200, cursor: int | None = None) -> told.LogPage:
        """The newest lines of the log, or those written after `cursor`."""
        answer = await self.call("logs.tail", _given(limit=limit, cursor=cursor))
        whole = answer if isinstance(answer, dict) else {}
        lines = tuple(str(line) for line in whole.get("lines") or ())
        after = whole.get("cursor")
        return told.LogPage(lines, after if isinstance(after, int) else None)

    async def status(self) -> Mapping[str, Any]:
        """Sessions, agents and runs at a glance."""
        return _object(await self.call("status", {}))

    async def health(self) -> Mapping[str, Any]:
        """Whether every part is fit to serve."""
        return _object(await self.call("health", {}))


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _object(answer: object) -> Mapping[str, Any]:
    return answer if isinstance(answer, dict) else {}
