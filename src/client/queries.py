"""The common methods of the control protocol, with typed results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from . import results


class Queries(ABC):
    """Typed methods on top of `call`; they raise what `call` raises."""

    @abstractmethod
    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = 30.0,  # noqa: ASYNC109 - part of the promise
    ) -> Any:
        """Send a request and return the payload of its response."""

    async def runs(
        self,
        *,
        session_key: str | None = None,
        agent_id: str | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> results.RunPage:
        """Runs, newest first."""
        params = _without_none(
            sessionKey=session_key, agentId=agent_id, status=status, limit=limit, cursor=cursor
        )
        answer = await self.call("runs.list", params)
        page = tuple(map(results.run_info, results.rows(answer, "runs")))
        cursor = answer.get("nextCursor") if isinstance(answer, dict) else None
        return results.RunPage(page, cursor if isinstance(cursor, str) else None)

    async def run(self, run_id: str) -> results.RunInfo:
        """One Run."""
        return results.run_info(await self.call("runs.get", {"runId": run_id}))

    async def abort_run(self, run_id: str) -> bool:
        """Abort a Run. False if it had already ended."""
        answer = await self.call("runs.abort", {"runId": run_id})
        return isinstance(answer, dict) and answer.get("aborted") is True

    async def sessions(
        self,
        *,
        agent_id: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> results.SessionPage:
        """Sessions, most recently used first."""
        params = _without_none(agentId=agent_id, search=search, limit=limit, offset=offset)
        answer = await self.call("sessions.list", params)
        page = tuple(map(results.session_info, results.rows(answer, "sessions")))
        following = answer.get("nextOffset") if isinstance(answer, dict) else None
        return results.SessionPage(page, following if isinstance(following, int) else None)

    async def agents(self) -> tuple[results.AgentInfo, ...]:
        answer = await self.call("agents.list", {})
        default = str(answer.get("defaultId", "")) if isinstance(answer, dict) else ""
        return tuple(results.agent_info(row, default) for row in results.rows(answer, "agents"))

    async def models(self) -> tuple[results.ModelInfo, ...]:
        """The configured models."""
        return tuple(
            map(results.model_info, results.rows(await self.call("models.list", {}), "models"))
        )

    async def history(
        self, session_key: str, *, limit: int = 200
    ) -> tuple[results.ChatMessage, ...]:
        """A Session's newest messages in chronological order. The call also subscribes this
        connection to the Session's events."""
        answer = await self.call("chat.history", {"sessionKey": session_key, "limit": limit})
        return tuple(map(results.chat_message, results.rows(answer, "messages")))

    async def logs(self, *, limit: int = 200, cursor: int | None = None) -> results.LogPage:
        """The newest lines of the log, or the lines after `cursor`."""
        answer = await self.call("logs.tail", _without_none(limit=limit, cursor=cursor))
        whole = answer if isinstance(answer, dict) else {}
        lines = tuple(str(line) for line in whole.get("lines") or ())
        after = whole.get("cursor")
        return results.LogPage(lines, after if isinstance(after, int) else None)

    async def status(self) -> Mapping[str, Any]:
        """A summary of sessions, agents and runs."""
        return _object(await self.call("status", {}))

    async def health(self) -> Mapping[str, Any]:
        """The health of every component."""
        return _object(await self.call("health", {}))


def _without_none(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _object(answer: object) -> Mapping[str, Any]:
    return answer if isinstance(answer, dict) else {}
