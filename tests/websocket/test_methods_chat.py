"""`agent`, `chat.send`, `sessions.send`: how long a run may take, who is told of its session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from opensoul.adapters.transports.control.broadcast import subscriptions as audiences
from opensoul.adapters.transports.control.connection.connection import AnswerFailed
from opensoul.adapters.transports.control.methods.runs import WaitParams
from opensoul.domain.errors import InvalidRequest, SessionBusy
from opensoul.domain.runs.events import Failed, Finished, RunEvent
from opensoul.domain.settings import LaneSettings, Settings
from tests.fakes.domain import Gate, agent, answered, settings, target
from tests.websocket.methods import Bench, connection

Door = tuple[str, dict[str, Any]]

AGENT: Door = "agent", {"message": "hi", "idempotencyKey": "K", "sessionKey": "talk"}
SEND: Door = "chat.send", {"message": "hi", "idempotencyKey": "K", "sessionKey": "talk"}
BY_KEY: Door = "sessions.send", {"message": "hi", "idempotencyKey": "K", "key": "talk"}
DOORS = {"agent": AGENT, "chat.send": SEND, "sessions.send": BY_KEY}


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.store.open()
    yield bench
    await bench.store.close()


def within(timeout: float | None) -> Settings:
    return settings([agent("main", target("acme/one"), timeout=timeout)])


async def ending(bench: Bench, source: str, **more: Any) -> RunEvent:
    """How the run ends that is begun at that source."""
    method, params = DOORS[source]
    asking = asyncio.create_task(bench.ask(method, **params, **more))
    await asyncio.wait({asking}, timeout=10)
    if isinstance(error := asking.exception(), Exception):
        assert isinstance(error, AnswerFailed)
    return await bench.log.end_of("K")


@pytest.mark.parametrize(
    ("source", "more", "configured", "limit"),
    [
        ("agent", {"timeout": 0.004}, 600.0, "0.004"),
        ("agent", {"timeout": 0}, 0.003, "0.003"),
        ("agent", {"timeout": 600}, 0.003, "0.003"),
        ("agent", {"timeout": 0.004}, None, "0.004"),
        ("chat.send", {"timeoutMs": 4}, 600.0, "0.004"),
        ("chat.send", {"timeoutMs": 0}, 0.003, "0.003"),
        ("chat.send", {"timeoutMs": 60_000}, 0.003, "0.003"),
        ("sessions.send", {"timeoutMs": 4}, 600.0, "0.004"),
        ("sessions.send", {"timeoutMs": 0}, 0.003, "0.003"),
    ],
)
async def test_a_client_shortens_the_time_of_its_run_and_does_not_lengthen_it(
    bench: Bench, source: str, more: dict[str, Any], configured: float | None, limit: str
) -> None:
    bench.settings = within(configured)
    bench.runner.script("K", Gate(), answered())

    event = await ending(bench, source, **more)

    assert event == Failed("run_timeout", f"The run took longer than the {limit} s it may.")


@pytest.mark.parametrize("source", DOORS)
async def test_no_time_is_no_limit_where_none_is_configured(bench: Bench, source: str) -> None:
    bench.settings = within(None)
    name = "timeout" if source == "agent" else "timeoutMs"

    assert isinstance(await ending(bench, source, **{name: 0}), Finished)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 86_401_000, "5", True])
@pytest.mark.parametrize("source", DOORS)
async def test_what_is_no_time_is_refused_by_name(bench: Bench, source: str, value: Any) -> None:
    method, params = DOORS[source]
    name = "timeout" if source == "agent" else "timeoutMs"

    with pytest.raises(ValidationError, match=name):
        await bench.ask(method, **{**params, name: value})

    assert bench.log.records == {}


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 86_400_001])
def test_waiting_for_no_time_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="timeoutMs"):
        WaitParams.model_validate({"runId": "K", "timeoutMs": value})


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may be told of two sessions."""
    monkeypatch.setattr(audiences, "MAX_SESSIONS", 2)


async def fill(bench: Bench) -> None:
    for key in ("one", "two"):
        await bench.ask("sessions.messages.subscribe", key=key)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("source", DOORS)
async def test_a_client_that_is_told_of_enough_sessions_begins_no_run_in_another(
    bench: Bench, source: str
) -> None:
    await fill(bench)
    method, params = DOORS[source]

    with pytest.raises(InvalidRequest, match="subscribed to 2 sessions"):
        await bench.ask(method, **params)

    assert bench.log.records == {}
    other = connection("other")
    assert await bench.ask(method, other, **params)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("source", DOORS)
async def test_it_may_go_on_in_those_it_is_told_of(bench: Bench, source: str) -> None:
    await fill(bench)
    method, params = DOORS[source]
    place = "key" if source == "sessions.send" else "sessionKey"

    assert await bench.ask(method, **{**params, place: "two"})


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("agent_id", [None, "main"])
async def test_a_client_that_is_told_of_all_sessions_may_begin_runs_in_any(
    bench: Bench, agent_id: str | None
) -> None:
    await fill(bench)
    of_an_agent: dict[str, Any] = {} if agent_id is None else {"agentId": agent_id}
    await bench.ask("sessions.subscribe", **of_an_agent)

    method, params = SEND
    assert (await bench.ask(method, **params))["runId"] == "K"
    assert len(bench.operator.sessions) == 2
    if agent_id is not None:
        with pytest.raises(InvalidRequest, match="subscribed to 2 sessions"):
            await bench.ask(method, **{**params, "sessionKey": "agent:beta:main"})


@pytest.mark.usefixtures("few")
async def test_many_requests_at_once_do_not_get_around_the_limit(bench: Bench) -> None:
    asking = [
        bench.ask("chat.send", message="hi", idempotencyKey=f"K{n}", sessionKey=f"talk-{n}")
        for n in range(6)
    ]

    outcomes = await asyncio.gather(*asking, return_exceptions=True)

    assert [isinstance(outcome, InvalidRequest) for outcome in outcomes] == [False] * 2 + [True] * 4
    assert len(bench.operator.sessions) == 2
    assert not bench.operator.reserved_sessions


@pytest.mark.usefixtures("few")
async def test_a_refused_run_takes_no_room(bench: Bench) -> None:
    await bench.ask("sessions.messages.subscribe", key="one")
    bench.settings = replace(bench.settings, lanes=LaneSettings(max_waiting=0))
    bench.runner.script("busy", gate := Gate(), answered())
    other = connection("other")
    sent: dict[str, Any] = {"message": "hi", "sessionKey": "talk"}
    await bench.ask("chat.send", other, **sent, idempotencyKey="busy")

    with pytest.raises(SessionBusy):
        await bench.ask("chat.send", **sent, idempotencyKey="K")

    gate.opened.set()
    await bench.ask("sessions.messages.subscribe", key="two")
    await bench.log.end_of("busy")
