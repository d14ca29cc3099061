"""`usage.*` and `sessions.usage`: tokens and their cost, from the stored turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from .....domain.access import Principal
from .....domain.errors import InvalidRequest
from .....domain.services import Gateway
from .....domain.sessions import PeriodUsage, SessionInfo, SessionKey, SessionQuery, UsageQuery
from ..connection import Call, NoParams
from ..protocol import Key, Name
from .days import DayParams, Days, days_of
from .service import ControlService, answers


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums up the usage of turns. `days`: the periods."""

    gateway: Gateway
    days: Days

    def totals(self, used: Iterable[PeriodUsage]) -> dict[str, Any]:
        """Tokens and US dollars. Turns whose model has no price are counted separately."""
        tokens = {"turns": 0, "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
        costs = {"totalCost": 0.0, "inputCost": 0.0, "outputCost": 0.0, "cacheReadCost": 0.0}
        unpriced = 0
        for usage in used:
            tokens["turns"] += usage.turns
            tokens["input"] += usage.input
            tokens["output"] += usage.output
            tokens["cacheRead"] += usage.cached
            target = self.gateway.settings.models.get(usage.model)
            if target is None or not target.price.known:
                unpriced += usage.turns
                continue
            price = target.price
            costs["totalCost"] += price.of(usage.input, usage.output, usage.cached)
            costs["inputCost"] += price.of(max(0, usage.input - usage.cached), 0, 0)
            costs["cacheReadCost"] += price.of(usage.cached, 0, usage.cached)
            costs["outputCost"] += price.of(0, usage.output, 0)
        return {
            **tokens,
            "totalTokens": tokens["input"] + tokens["output"],
            **{name: round(cost, 6) for name, cost in costs.items()},
            "cacheWriteCost": 0.0,
            "missingCostEntries": unpriced,
        }

    def daily(self, used: Iterable[PeriodUsage]) -> list[dict[str, Any]]:
        """The totals of each day with usage, oldest first."""
        groups = grouped(used, lambda usage: usage.period)
        return [{"date": self.days.name(day), **self.totals(groups[day])} for day in sorted(groups)]

    def aggregates(self, used: Iterable[PeriodUsage]) -> dict[str, Any]:
        """Totals by model, provider, agent and day. A turn counts as one user message; there are no
        tool calls."""
        used = tuple(used)
        by_model = grouped(used, lambda usage: usage.model)
        by_provider = grouped(used, lambda usage: usage.model.partition("/")[0])
        by_agent = grouped(used, lambda usage: usage.agent_id)
        return {
            "messages": messages(used),
            "tools": {"totalCalls": 0, "uniqueTools": 0, "tools": []},
            "byModel": [
                {**_model(model), "count": _turns(group), "totals": self.totals(group)}
                for model, group in by_model.items()
            ],
            "byProvider": [
                {"provider": name, "count": _turns(group), "totals": self.totals(group)}
                for name, group in by_provider.items()
            ],
            "byAgent": [
                {"agentId": name, "totals": self.totals(group)} for name, group in by_agent.items()
            ],
            "byChannel": [],
            "byCreator": [],
            "costDaily": self.daily(used),
            "daily": [self._day(day, group) for day, group in self._by_day(used)],
            "modelDaily": [
                self._model_of_day(day, model, models)
                for day, group in self._by_day(used)
                for model, models in grouped(group, lambda usage: usage.model).items()
            ],
        }

    def _by_day(self, used: Iterable[PeriodUsage]) -> list[tuple[int, list[PeriodUsage]]]:
        return sorted(grouped(used, lambda usage: usage.period).items())

    def _day(self, day: int, used: list[PeriodUsage]) -> dict[str, Any]:
        totals = self.totals(used)
        return {
            "date": self.days.name(day),
            "tokens": totals["totalTokens"],
            "cost": totals["totalCost"],
            "messages": sum(usage.messages for usage in used),
            "toolCalls": 0,
            "errors": 0,
        }

    def _model_of_day(self, day: int, model: str, used: list[PeriodUsage]) -> dict[str, Any]:
        totals = self.totals(used)
        return {
            "date": self.days.name(day),
            **_model(model),
            "tokens": totals["totalTokens"],
            "cost": totals["totalCost"],
            "count": _turns(used),
        }


def messages(used: Iterable[PeriodUsage]) -> dict[str, int]:
    """How many messages the turns have; each has one of the user's at least."""
    used = tuple(used)
    total, user = sum(usage.messages for usage in used), _turns(used)
    return {
        "total": total,
        "user": user,
        "assistant": max(0, total - user),
        "toolCalls": 0,
        "toolResults": 0,
        "errors": 0,
    }


def grouped(
    used: Iterable[PeriodUsage], by: Callable[[PeriodUsage], Any]
) -> dict[Any, list[PeriodUsage]]:
    """Group by the key `by`, in the order of its first occurrence."""
    groups: dict[Any, list[PeriodUsage]] = {}
    for usage in used:
        groups.setdefault(by(usage), []).append(usage)
    return groups


def _turns(used: Iterable[PeriodUsage]) -> int:
    return sum(usage.turns for usage in used)


def _model(ref: str) -> dict[str, str]:
    provider, _, model = ref.partition("/")
    return {"provider": provider, "model": model}


_DAY = 86_400.0


class CostParams(DayParams):
    """`days`: the number of days up to today, if there is no `start_date`."""

    days: Annotated[int, Field(ge=1, le=3_650)] | None = None


class UsageMethods(ControlService):
    @answers("usage.status", NoParams)
    async def _status(self, call: Call, params: NoParams) -> object:
        """`providers` is empty: no provider's API reports quotas to an API key."""
        now = self.clock()
        days = days_of(DayParams(), now)
        day = await self._sum(call.principal, days, now - _DAY)
        month = await self._sum(call.principal, days, now - 30 * _DAY)
        return {
            "updatedAt": int(now * 1_000),
            "providers": [],
            "lastDay": day,
            "last30Days": month,
        }

    @answers("usage.cost", CostParams)
    async def _cost(self, call: Call, params: CostParams) -> object:
        now = self.clock()
        days = days_of(params, now, params.days)
        query = UsageQuery(days.bounds, agent_id=params.only_agent)
        used = await self.session_service.usage(call.principal, query)
        sums = Sums(self.gateway, days)
        return {
            "updatedAt": int(now * 1_000),
            "days": len(days.bounds) - 1,
            **days.dates,
            "daily": sums.daily(used),
            "totals": sums.totals(used),
        }

    async def _sum(self, principal: Principal, days: Days, since: float) -> dict[str, Any]:
        query = UsageQuery((since, days.bounds[-1]))
        return Sums(self.gateway, days).totals(await self.session_service.usage(principal, query))


class SessionUsageParams(DayParams):
    """`key`: only this session.

    A session's usage always covers all its transcripts, so `group_by` and `include_historical` have
    no effect. Neither have `include_context_weight` and `creator_key`: the composition of a context
    and the creator of a session are not stored.
    """

    key: Key | None = None
    group_by: Literal["instance", "family"] | None = None
    include_historical: bool | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 50
    include_context_weight: bool | None = None
    creator_key: Name | None = None


class SessionUsage(ControlService):
    @answers("sessions.usage", SessionUsageParams)
    async def _usage(self, call: Call, params: SessionUsageParams) -> object:
        """All figures cover the requested days."""
        now = self.clock()
        days = days_of(params, now)
        key = self._key(call, params)
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

    def _key(self, call: Call, params: SessionUsageParams) -> SessionKey | None:
        if params.key is None:
            return None
        if params.agent_scope is not None:
            raise InvalidRequest("agentScope=all cannot be combined with key", param="key")
        return self.gateway.session_key(
            params.key, agent_id=params.agent_id, principal=call.principal
        )

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
