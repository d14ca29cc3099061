"""`usage.*`: tokens and what they cost, from the turns that are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from .....domain.auth import Principal
from .....domain.gateway import Gateway
from .....domain.ports import Clock
from .....domain.session_desk import SessionDesk
from .....domain.session_records import DayUsage
from ..calls import Call, Handler, Handlers, NoParams, Params

_DAY = 86_400.0


class CostParams(Params):
    """How many days back, today included."""

    days: Annotated[int, Field(ge=1, le=3_650)] = 30


@dataclass(frozen=True, slots=True)
class UsageMethods:
    """The handlers. Days are UTC."""

    gateway: Gateway
    desk: SessionDesk
    clock: Clock

    def handlers(self) -> Handlers:
        return {
            "usage.status": Handler(NoParams, self._status),
            "usage.cost": Handler(CostParams, self._cost),
        }

    async def _status(self, call: Call, params: NoParams) -> object:
        """Providers' quotas are not asked for: no provider's API tells them to a plain key."""
        now = self.clock()
        day = await self._sum(call.principal, now - _DAY)
        month = await self._sum(call.principal, now - 30 * _DAY)
        told = {"lastDay": day, "last30Days": month}
        return {"updatedAt": int(now * 1_000), "providers": [], **told}

    async def _cost(self, call: Call, params: CostParams) -> object:
        now = self.clock()
        # From midnight on, so that the first day is a whole one.
        since = (now // _DAY - (params.days - 1)) * _DAY
        used = await self.desk.usage(call.principal, since)
        days = sorted({usage.day for usage in used})
        return {
            "updatedAt": int(now * 1_000),
            "days": params.days,
            "daily": [
                {"date": day, **self._totals(u for u in used if u.day == day)} for day in days
            ],
            "totals": self._totals(used),
        }

    async def _sum(self, principal: Principal, since: float) -> dict[str, Any]:
        return self._totals(await self.desk.usage(principal, since))

    def _totals(self, used: Iterable[DayUsage]) -> dict[str, Any]:
        """Tokens and US dollars. What has no price in the configuration is counted apart."""
        told = {"turns": 0, "input": 0, "output": 0, "cacheRead": 0, "totalTokens": 0}
        cost, unpriced = 0.0, 0
        for usage in used:
            told["turns"] += usage.turns
            told["input"] += usage.input
            told["output"] += usage.output
            told["cacheRead"] += usage.cached
            told["totalTokens"] += usage.input + usage.output
            target = self.gateway.settings.models.get(usage.model)
            if target is None or not target.price.known:
                unpriced += usage.turns
            else:
                cost += target.price.of(usage.input, usage.output, usage.cached)
        return {**told, "totalCost": round(cost, 6), "missingCostEntries": unpriced}
