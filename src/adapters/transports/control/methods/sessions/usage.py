"""`sessions.usage`: tokens by session, day, model, provider and agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from ......domain.errors import InvalidRequest
from ......domain.ports import Clock
from ......domain.services import Gateway, SessionService
from ......domain.sessions import PeriodUsage, SessionInfo, SessionKey, SessionQuery, UsageQuery
from ...connection import Call, Handler, Handlers
from ...protocol import Name
from ..payloads import Rows
from ..usage import DayParams, Sums, days_of, grouped, messages


class SessionUsageParams(DayParams):
    """`key`: only this session.

    A session's usage always covers all its transcripts, so `group_by` and `include_historical` have
    no effect. Neither have `include_context_weight` and `creator_key`: the composition of a context
    and the creator of a session are not stored.
    """

    key: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    group_by: Literal["instance", "family"] | None = None
    include_historical: bool | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 50
    include_context_weight: bool | None = None
    creator_key: Name | None = None


@dataclass(frozen=True, slots=True)
class SessionUsage:
    gateway: Gateway
    session_service: SessionService
    rows: Rows
    clock: Clock

    def handlers(self) -> Handlers:
        return {"sessions.usage": Handler(SessionUsageParams, self._usage)}

    async def _usage(self, call: Call, params: SessionUsageParams) -> object:
        """All figures cover the requested days."""
        now = self.clock()
        days = days_of(params, now)
        key = self._key(params)
        query = UsageQuery(days.bounds, agent_id=params.only_agent, key=key)
        used = await self.session_service.usage(call.principal, query)
        sums = Sums(self.gateway, days)
        sessions = await self._sessions(call, params, key, days.bounds[0])
        rows = [await self._row(call, info, sums) for info in sessions]
        aggregates = sums.aggregates(used)
        return {
            "updatedAt": int(now * 1_000),
            **days.dates,
            "sessions": rows,
            "daily": aggregates["costDaily"],
            "costDaily": aggregates["costDaily"],
            "totals": sums.totals(used),
            "aggregates": {"sessionCount": len(rows), **aggregates},
        }

    def _key(self, params: SessionUsageParams) -> SessionKey | None:
        if params.key is None:
            return None
        if params.agent_scope is not None:
            raise InvalidRequest("agentScope=all cannot be combined with key", param="key")
        return self.gateway.session_key(params.key, agent_id=params.agent_id)

    async def _sessions(
        self, call: Call, params: SessionUsageParams, key: SessionKey | None, since: float
    ) -> Sequence[SessionInfo]:
        if key is not None:
            info = await self.session_service.find(call.principal, key)
            return () if info is None else (info,)
        query = SessionQuery(agent_id=params.only_agent, updated_after=since, limit=params.limit)
        return (await self.session_service.list(call.principal, query)).sessions

    async def _row(self, call: Call, info: SessionInfo, sums: Sums) -> dict[str, Any]:
        query = UsageQuery(sums.days.bounds, key=info.key)
        used = await self.session_service.usage(call.principal, query)
        return {
            "key": str(info.key),
            "agentId": info.key.agent_id,
            "sessionId": info.session_id,
            "label": info.settings.get("label"),
            "updatedAt": int(info.updated_at * 1_000),
            **self.rows.resolved(info),
            "usage": {**sums.totals(used), **_details(used, sums)},
        }


def _details(used: Sequence[PeriodUsage], sums: Sums) -> dict[str, Any]:
    """The fields of a session's row besides its totals."""
    details: dict[str, Any] = {
        "messageCounts": messages(used),
        "dailyBreakdown": [
            {**day, "tokens": day["totalTokens"], "cost": day["totalCost"]}
            for day in sums.daily(used)
        ],
        "activityDates": [sums.days.name(day) for day in grouped(used, lambda one: one.period)],
        "modelUsage": sums.aggregates(used)["byModel"],
    }
    if used:
        first, last = min(one.first for one in used), max(one.last for one in used)
        details |= {"firstActivity": int(first * 1_000), "lastActivity": int(last * 1_000)}
        details["durationMs"] = int((last - first) * 1_000)
    return details
