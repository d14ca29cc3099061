"""`usage.*`: tokens and their cost, from the stored turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from ......domain.access import Principal
from ......domain.ports import Clock
from ......domain.services import Gateway, SessionService
from ......domain.sessions import UsageQuery
from ...connection import Call, Handler, Handlers, NoParams
from .days import DayParams, Days, days_of
from .sums import Sums

_DAY = 86_400.0


class CostParams(DayParams):
    """`days`: the number of days up to today, if there is no `start_date`."""

    days: Annotated[int, Field(ge=1, le=3_650)] | None = None


@dataclass(frozen=True, slots=True)
class UsageMethods:
    gateway: Gateway
    session_service: SessionService
    clock: Clock

    def handlers(self) -> Handlers:
        return {
            "usage.status": Handler(NoParams, self._status),
            "usage.cost": Handler(CostParams, self._cost),
        }

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
