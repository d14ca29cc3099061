"""`sessions.usage`: tokens by session and by day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from .....domain.errors import InvalidRequest
from .....domain.gateway import Gateway
from .....domain.ports import Clock
from .....domain.session_desk import SessionDesk
from .....domain.session_records import DayUsage, SessionInfo, SessionQuery
from ..calls import Call, Handler, Handlers, Params
from ..frames import Name
from .session_rows import Rows

_DAYS = 30
_DAY = timedelta(days=1)

Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class SessionUsageParams(Params):
    """Days are UTC and both included; left out, the last 30. With a `key`: that session alone.

    `include_context_weight` is accepted and changes nothing: what fills a context is not kept.
    """

    key: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    agent_id: Name | None = None
    start_date: Day | None = None
    end_date: Day | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 50
    include_context_weight: bool | None = None


@dataclass(frozen=True, slots=True)
class SessionUsage:
    """The handler."""

    gateway: Gateway
    desk: SessionDesk
    rows: Rows
    clock: Clock

    def handlers(self) -> Handlers:
        return {"sessions.usage": Handler(SessionUsageParams, self._usage)}

    async def _usage(self, call: Call, params: SessionUsageParams) -> object:
        """Of sessions: all of the current transcript; of days: all sessions together."""
        now = self.clock()
        last = _day(params.end_date, "endDate") or datetime.fromtimestamp(now, UTC).date()
        first = _day(params.start_date, "startDate") or last - (_DAYS - 1) * _DAY
        since = datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()
        told: dict[str, Any] = {
            "updatedAt": int(now * 1_000),
            "startDate": first.isoformat(),
            "endDate": last.isoformat(),
        }
        sessions = await self._sessions(call, params, since)
        told["sessions"] = [self._row(info) for info in sessions]
        if params.key is None:
            until = last.isoformat()
            used = [u for u in await self.desk.usage(call.principal, since) if u.day <= until]
            told["daily"] = _by_day(used)
            told["totals"] = _tokens(sum(u.input for u in used), sum(u.output for u in used))
        else:
            tokens = [(info.input_tokens, info.output_tokens) for info in sessions]
            told["totals"] = _tokens(sum(i for i, _ in tokens), sum(o for _, o in tokens))
        return told

    async def _sessions(
        self, call: Call, params: SessionUsageParams, since: float
    ) -> Iterable[SessionInfo]:
        if params.key is not None:
            key = self.gateway.session_key(params.key, agent_id=params.agent_id)
            info = await self.desk.find(call.principal, key)
            return () if info is None else (info,)
        agent_id = None if params.agent_id is None else params.agent_id.lower()
        query = SessionQuery(agent_id=agent_id, updated_after=since, limit=params.limit)
        return (await self.desk.list(call.principal, query)).sessions

    def _row(self, info: SessionInfo) -> dict[str, Any]:
        return {
            "key": str(info.key),
            "agentId": info.key.agent_id,
            "sessionId": info.session_id,
            "label": info.settings.get("label"),
            "updatedAt": int(info.updated_at * 1_000),
            **self.rows.resolved(info),
            "usage": _tokens(info.input_tokens, info.output_tokens),
        }


def _day(text: str | None, param: str) -> date | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{param} is no day: {text}", param=param) from None
    if not 1971 <= day.year <= 9998:
        raise InvalidRequest(f"{param} is out of range: {text}", param=param)
    return day


def _by_day(used: Iterable[DayUsage]) -> list[dict[str, Any]]:
    days: dict[str, list[int]] = {}
    for usage in used:
        sums = days.setdefault(usage.day, [0, 0])
        sums[0] += usage.input
        sums[1] += usage.output
    return [{"date": day, **_tokens(*days[day])} for day in sorted(days)]


def _tokens(sent: int, answered: int) -> dict[str, int]:
    return {"input": sent, "output": answered, "totalTokens": sent + answered}
