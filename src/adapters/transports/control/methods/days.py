"""The days of a usage report, in the requested time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from .....domain.errors import InvalidRequest
from ..connection import Params
from ..protocol import Name

_DAY = timedelta(days=1)
_DEFAULT = 30
_MOST = 3_660
"""Days of one report."""
_RANGES = {"7d": 7, "30d": 30, "90d": 90, "1y": 365, "all": _MOST}
_OFFSET = re.compile(r"UTC([+-])(\d{1,2})(?::([0-5]\d))?")

Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class DayParams(Params):
    """The first and last day, both included; by default `range`, or the last 30 days.

    `mode`: the time zone of the days: `utc` (default); `gateway`, that of the Gateway's machine;
    `specific`, the IANA zone `time_zone`, or `utc_offset` such as `UTC+5:30`.
    """

    start_date: Day | None = None
    end_date: Day | None = None
    range: Literal["7d", "30d", "90d", "1y", "all"] | None = None
    mode: Literal["utc", "gateway", "specific"] | None = None
    time_zone: Name | None = None
    utc_offset: Annotated[str, Field(pattern=r"^UTC[+-]\d{1,2}(:[0-5]\d)?$")] | None = None
    agent_id: Name | None = None
    agent_scope: Literal["all"] | None = None

    @property
    def only_agent(self) -> str | None:
        """The agent of the report; None for all. Raises InvalidRequest."""
        if self.agent_scope is not None and self.agent_id is not None:
            raise InvalidRequest("agentScope=all cannot be combined with agentId", param="agentId")
        return None if self.agent_id is None else self.agent_id.strip().lower()


@dataclass(frozen=True, slots=True)
class Days:
    """Consecutive days. `bounds`: the Unix seconds at which each begins, and the end."""

    first: date
    last: date
    bounds: tuple[float, ...]

    def name(self, index: int) -> str:
        """The day with this index, as `YYYY-MM-DD`."""
        return (self.first + index * _DAY).isoformat()

    @property
    def dates(self) -> dict[str, str]:
        return {"startDate": self.first.isoformat(), "endDate": self.last.isoformat()}


def days_of(params: DayParams, now: float, days: int | None = None) -> Days:
    """The days of a report; `days`: their default number.

    Raises InvalidRequest.
    """
    zone = _zone(params)
    last = _day(params.end_date, "endDate") or datetime.fromtimestamp(now, zone).date()
    first = _day(params.start_date, "startDate")
    if first is None:
        first = last - ((days or _RANGES.get(params.range or "", _DEFAULT)) - 1) * _DAY
    count = (last - first).days + 1
    if count < 1:
        raise InvalidRequest(f"startDate {first} is after endDate {last}.", param="startDate")
    if count > _MOST:
        raise InvalidRequest(
            f"A report covers at most {_MOST} days, not {count}.", param="startDate"
        )
    return Days(first, last, tuple(_midnight(first + n * _DAY, zone) for n in range(count + 1)))


def _zone(params: DayParams) -> tzinfo | None:
    """None: the time zone of the machine."""
    if params.mode == "gateway":
        return None
    if params.mode != "specific":
        return UTC
    if params.time_zone is not None:
        try:
            return ZoneInfo(params.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            if params.utc_offset is None:
                raise InvalidRequest(
                    f"The Gateway's machine does not know the timeZone {params.time_zone!r}. "
                    "Pass an utcOffset such as UTC+2.",
                    param="timeZone",
                ) from None
    if params.utc_offset is None:
        raise InvalidRequest("mode specific requires a timeZone or an utcOffset.", param="mode")
    return _offset(params.utc_offset)


def _offset(text: str) -> timezone:
    match = _OFFSET.fullmatch(text)
    hours, minutes = (int(match[2]), int(match[3] or 0)) if match is not None else (99, 0)
    if match is None or hours > 14:
        raise InvalidRequest(
            f"Invalid utcOffset {text!r}. Expected something like UTC-4 or UTC+5:30."
        )
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(offset if match[1] == "+" else -offset)


def _midnight(day: date, zone: tzinfo | None) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _day(text: str | None, param: str) -> date | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{param} is not a valid date: {text}", param=param) from None
    if not 1971 <= day.year <= 9998:
        raise InvalidRequest(f"{param} is out of range: {text}", param=param)
    return day
