"""`usage.cost` and `sessions.usage`: days of any time zone, and what reports group by."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from opensoul.adapters.transports.control.methods.usage import UsageMethods
from opensoul.domain.errors import InvalidRequest
from opensoul.domain.models.calls import Price
from opensoul.domain.models.directory import ModelDirectory
from tests.fakes.domain import agent, settings, target
from tests.websocket.methods import Bench


def at(text: str) -> float:
    """Unix seconds of a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    priced = replace(target("acme/one"), price=Price(input=2.0, output=4.0))
    directory = ModelDirectory((priced, target("acme/two")))
    agents = (agent("main", priced), agent("beta", priced))
    bench = Bench(settings(agents, models=directory))
    bench.handlers = {**bench.handlers, **bench.handlers_of(UsageMethods)}
    bench.clock.now = at("2026-03-30T12:00")
    await bench.store.open()
    yield bench
    await bench.store.close()


@pytest.fixture
def machine_in_auckland() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Pacific/Auckland"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


TURN = at("2026-03-29T21:30")


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ({}, "2026-03-29"),
        ({"mode": "utc", "timeZone": "Asia/Tokyo"}, "2026-03-29"),
        ({"mode": "specific", "timeZone": "Asia/Tokyo"}, "2026-03-30"),
        ({"mode": "specific", "timeZone": "Asia/Tokyo", "utcOffset": "UTC-4"}, "2026-03-30"),
        # Since that morning clocks there are two hours ahead; before, it was one.
        ({"mode": "specific", "timeZone": "Europe/Berlin"}, "2026-03-29"),
        ({"mode": "specific", "utcOffset": "UTC+2:30"}, "2026-03-30"),
        ({"mode": "specific", "utcOffset": "UTC+2:29"}, "2026-03-29"),
        ({"mode": "specific", "timeZone": "Not/AZone", "utcOffset": "UTC+3"}, "2026-03-30"),
    ],
)
async def test_a_turn_is_of_the_day_that_it_is_where_the_client_is(
    bench: Bench, zone: dict[str, Any], day: str
) -> None:
    await bench.turn("main", at=TURN)
    cost = await bench.ask("usage.cost", **zone)
    assert [one["date"] for one in cost["daily"]] == [day]
    sessions = await bench.ask("sessions.usage", **zone)
    assert [one["date"] for one in sessions["aggregates"]["costDaily"]] == [day]
    alone: dict[str, Any] = {"startDate": day, "endDate": day}
    assert (await bench.ask("usage.cost", **zone, **alone))["totals"]["turns"] == 1
    other: dict[str, Any] = {"startDate": "2026-03-28", "endDate": "2026-03-28"}
    assert (await bench.ask("usage.cost", **zone, **other))["totals"]["turns"] == 0


async def test_a_day_may_have_twenty_three_hours(bench: Bench) -> None:
    """The clocks of Berlin go forward on 29 March 2026."""
    for hour in ("2026-03-28T22:59", "2026-03-28T23:00", "2026-03-29T21:59", "2026-03-29T22:00"):
        await bench.turn("main", at=at(hour))
    cost = await bench.ask("usage.cost", mode="specific", timeZone="Europe/Berlin")
    assert {one["date"]: one["turns"] for one in cost["daily"]} == {
        "2026-03-28": 1,
        "2026-03-29": 2,
        "2026-03-30": 1,
    }


@pytest.mark.usefixtures("machine_in_auckland")
async def test_the_gateways_own_days_are_those_of_its_machine(bench: Bench) -> None:
    await bench.turn("main", at=at("2026-03-28T11:30"))  # 00:30 there
    cost = await bench.ask("usage.cost", mode="gateway")
    assert [one["date"] for one in cost["daily"]] == ["2026-03-29"]


async def test_the_first_and_the_last_day_are_included(bench: Bench) -> None:
    for day in ("27", "28", "29", "30"):
        await bench.turn("main", at=at(f"2026-03-{day}T00:00"))
    asked: dict[str, Any] = {"startDate": "2026-03-28", "endDate": "2026-03-29"}
    cost = await bench.ask("usage.cost", **asked)
    assert [one["date"] for one in cost["daily"]] == ["2026-03-28", "2026-03-29"]
    assert (cost["days"], cost["startDate"], cost["endDate"]) == (2, *asked.values())
    assert (await bench.ask("usage.cost", days=2))["totals"]["turns"] == 2
    assert (await bench.ask("sessions.usage", range="7d"))["startDate"] == "2026-03-24"


async def test_usage_is_of_an_agent_or_of_all(bench: Bench) -> None:
    await bench.turn("main", at=TURN)
    await bench.turn("agent:beta:x", at=TURN)
    assert (await bench.ask("usage.cost", agentScope="all"))["totals"]["turns"] == 2
    assert (await bench.ask("usage.cost", agentId="Beta"))["totals"]["turns"] == 1
    told = await bench.ask("sessions.usage", agentId="beta")
    assert [row["key"] for row in told["sessions"]] == ["agent:beta:x"]
    assert told["totals"]["turns"] == 1


async def test_reports_are_grouped_and_have_their_cost(bench: Bench) -> None:
    await bench.turn("main", at=TURN)
    await bench.turn("agent:beta:x", at=TURN - 86_400.0, model="acme/two")
    told = await bench.ask("sessions.usage", groupBy="family", includeHistorical=True)
    groups = told["aggregates"]
    cost = (20 * 2.0 + 10 * 4.0) / 1_000_000
    assert {one["model"]: one["totals"]["totalCost"] for one in groups["byModel"]} == {
        "two": 0.0,
        "one": cost,
    }
    assert [(one["provider"], one["count"]) for one in groups["byProvider"]] == [("acme", 2)]
    assert {one["agentId"] for one in groups["byAgent"]} == {"main", "beta"}
    assert [one["date"] for one in groups["costDaily"]] == ["2026-03-28", "2026-03-29"]
    assert [(one["date"], one["tokens"]) for one in groups["daily"]] == [
        ("2026-03-28", 30),
        ("2026-03-29", 30),
    ]
    assert [one["model"] for one in groups["modelDaily"]] == ["two", "one"]
    assert groups["messages"]["total"] == 4
    assert told["costDaily"] == groups["costDaily"]
    totals = told["totals"]
    assert totals["missingCostEntries"] == 1
    parts = totals["inputCost"] + totals["outputCost"] + totals["cacheReadCost"]
    assert totals["totalCost"] == pytest.approx(parts) == pytest.approx(cost)


async def test_a_sessions_usage_is_of_the_days_asked_for_and_of_all_its_transcripts(
    bench: Bench,
) -> None:
    for day in ("2026-01-01", "2026-03-28", "2026-03-29"):
        await bench.turn("main", at=at(day))
    await bench.ask("sessions.reset", key="main")
    await bench.turn("main", at=TURN)
    (row,) = (await bench.ask("sessions.usage"))["sessions"]
    assert row["usage"]["turns"] == 3
    assert row["usage"]["activityDates"] == ["2026-03-28", "2026-03-29"]
    assert row["usage"]["lastActivity"] == int(TURN * 1_000)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"startDate": "2026-03-02", "endDate": "2026-03-01"}, "is after endDate"),
        ({"startDate": "1990-01-01"}, "at most 3660 days"),
        ({"startDate": "2026-02-30"}, "is not a valid date"),
        ({"mode": "specific"}, "requires a timeZone or an utcOffset"),
        ({"mode": "specific", "timeZone": "Not/AZone"}, "does not know the timeZone"),
        ({"mode": "specific", "timeZone": "../etc/passwd"}, "does not know the timeZone"),
        ({"mode": "specific", "utcOffset": "UTC+25"}, "Invalid utcOffset"),
        ({"agentScope": "all", "agentId": "main"}, "cannot be combined"),
    ],
)
async def test_days_that_there_are_not_are_refused(
    bench: Bench, asked: dict[str, Any], told: str
) -> None:
    for method in ("usage.cost", "sessions.usage"):
        with pytest.raises(InvalidRequest, match=told):
            await bench.ask(method, **asked)


async def test_a_mode_that_there_is_not_is_refused(bench: Bench) -> None:
    with pytest.raises(ValidationError):
        await bench.ask("usage.cost", mode="lunar")
