"""Runs over connections that fail: every event once, in order, and nothing asked twice."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from opensoul.client import (
    Aborted,
    Backoff,
    CallFailed,
    ConnectionLost,
    Failed,
    Finished,
    HandshakeRefused,
    Started,
    State,
    TextDelta,
    TimedOut,
)

from .conftest import Connect
from .fake_gateway import FakeGateway, FakeRun, failed, finished, send, started, text

pytestmark = pytest.mark.both_loops


async def test_a_run_is_followed_to_its_end(fake: FakeGateway, connect: Connect) -> None:
    async with connect() as client:
        run = await client.run_agent("hi", agent_id="main", thinking="low", timeout=5)
        assert (run.session_key, run.agent_id) == ("agent:main:main", "main")
        await fake.runs[run.run_id].tell(started(), text("a"), text("b"), finished())
        seen = [event async for event in run.events()]
        assert seen == [
            Started(1),
            TextDelta(2, "a"),
            TextDelta(3, "b"),
            Finished(4, "stop", "fake/m", {"total": 3}),
        ]
        result = await run.result(10)
    assert (result.status, result.text, result.model) == ("ok", "ab", "fake/m")
    assert result.payload["by"] == "agent"
    [asked] = fake.methods("agent")
    assert asked["idempotencyKey"] == run.run_id
    assert (asked["thinking"], asked["timeout"]) == ("low", 5)


@pytest.mark.parametrize(
    ("seconds", "sent"), [(0.9, "0.9"), (0.0004, "0.0004"), (2.0, "2"), (90, "90"), (0, "0")]
)
async def test_a_runs_time_is_sent_as_it_is(
    fake: FakeGateway, connect: Connect, seconds: float, sent: str
) -> None:
    async with connect() as client:
        await client.run_agent("hi", timeout=seconds)
    [asked] = fake.methods("agent")
    assert json.dumps(asked["timeout"]) == sent


@pytest.mark.parametrize("seconds", [-1, -0.1, math.nan, math.inf])
async def test_a_time_that_is_none_is_refused_before_anything_is_sent(
    fake: FakeGateway, connect: Connect, seconds: float
) -> None:
    async with connect() as client:
        with pytest.raises(ValueError, match="timeout must be a number of seconds"):
            await client.run_agent("hi", timeout=seconds)
    assert fake.methods("agent") == []


async def test_after_a_lost_connection_it_goes_on_where_it_was(
    fake: FakeGateway, connect: Connect
) -> None:
    states: list[State] = []
    async with connect(on_state=states.append) as client:
        run = await client.run_agent("hi")
        events = run.events()
        told = fake.runs[run.run_id]
        await told.tell(started(), text("a"))
        assert [await anext(events), await anext(events)] == [Started(1), TextDelta(2, "a")]
        await fake.drop()
        await told.tell(text("b"))
        assert await anext(events) == TextDelta(3, "b")
        await fake.drop()
        await told.tell(text("c"), finished())
        assert [event.seq async for event in events] == [4, 5]
        result = await run.result(10)
    assert result.text == "abc"
    # The last answer went down with the first connection: the events tell the same.
    assert result.payload["result"]["payloads"] == [{"text": "abc"}]
    assert len(fake.methods("agent")) == 1
    assert [params["afterSeq"] for params in fake.methods("runs.follow")] == [0, 2, 3]
    assert states[:3] == [State.CONNECTED, State.RECONNECTING, State.CONNECTED]
    assert states[-1] is State.CLOSED


async def test_a_request_that_may_not_have_arrived_is_repeated_under_its_key(
    fake: FakeGateway, connect: Connect
) -> None:
    async def drop_first(_: object, method: str) -> bool:
        if method == "agent" and len(fake.methods("agent")) == 1:
            await fake.drop()
            return True
        return False

    fake.before_answer = drop_first
    async with connect() as client:
        run = await client.run_agent("hi")
        await fake.runs[run.run_id].tell(started(), finished())
        assert (await run.result(10)).status == "ok"
    first, second = fake.methods("agent")
    assert first == second
    assert len(fake.runs) == 1


async def test_without_reconnecting_a_lost_connection_is_the_end(
    fake: FakeGateway, connect: Connect
) -> None:
    async with connect(reconnect=False) as client:
        run = await client.run_agent("hi")
        await fake.until_asked("runs.follow")
        await fake.drop()
        with pytest.raises(ConnectionLost):
            await run.result(10)
        with pytest.raises(ConnectionLost):
            _ = [event async for event in run.events()]
        with pytest.raises(ConnectionLost):
            await client.run_agent("again")


async def test_a_call_is_never_sent_again(fake: FakeGateway, connect: Connect) -> None:
    async def drop(_: object, method: str) -> bool:
        if method == "config.set":
            await fake.drop()
        return method == "config.set"

    fake.before_answer = drop
    fake.answers["health"] = {"fine": 1}
    async with connect() as client:
        with pytest.raises(ConnectionLost):
            await client.call("config.set", {})
        assert await client.health() == {"fine": 1}
    assert len(fake.methods("config.set")) == 1


async def test_events_that_were_overheard_are_told_once(
    fake: FakeGateway, connect: Connect
) -> None:
    async with connect() as client:
        run = await client.run_agent("hi")
        told = fake.runs[run.run_id]
        await told.tell(started())
        # The general telling says the same, and some of it earlier.
        await fake.tell("agent", told.events[0])
        await fake.tell("agent", {"runId": run.run_id, "seq": 3, **text("later")})
        await told.tell(text("a"), text("b"), finished())
        seen = [event.seq async for event in run.events()]
    assert seen == [1, 2, 3, 4]


async def test_a_run_is_aborted(fake: FakeGateway, connect: Connect) -> None:
    async with connect() as client:
        run = await client.run_agent("hi")
        await fake.runs[run.run_id].tell(started())
        assert await run.abort()
        result = await run.result(10)
        assert [type(event) async for event in run.events()] == [Started, Aborted]
    assert (result.status, result.error) == ("aborted", "Stopped.")


async def test_a_failure_is_a_result_with_its_reason(fake: FakeGateway, connect: Connect) -> None:
    fake.send_last_answer = False
    async with connect() as client:
        run = await client.run_agent("hi")
        await fake.runs[run.run_id].tell(started(), failed("The model is gone."))
        fake.answers["health"] = {}
        events = [event async for event in run.events()]
        assert events[-1] == Failed(2, "The model is gone.", "x")


async def test_a_refused_request_begins_no_run(fake: FakeGateway, connect: Connect) -> None:
    error = {"code": "INVALID_REQUEST", "message": 'unknown agent id "x"'}
    fake.answers["agent"] = {"ok": False, "error": error}
    async with connect() as client:
        with pytest.raises(CallFailed, match="unknown agent id"):
            await client.run_agent("hi", agent_id="x")


async def test_a_repeated_request_of_a_run_long_over_tells_its_result(
    fake: FakeGateway, connect: Connect
) -> None:
    result = {"payloads": [{"text": "as then"}]}
    fake.answers["agent"] = {"runId": "K", "status": "ok", "result": result}
    async with connect() as client:
        run = await client.run_agent("hi", idempotency_key="K")
        assert (await run.result(10)).text == "as then"


async def test_a_run_of_another_door_is_followed_from_a_number_on(
    fake: FakeGateway, connect: Connect
) -> None:
    fake.runs["R"] = FakeRun("R")
    await fake.runs["R"].tell(started(), text("a"), text("b"), finished())
    async with connect() as client:
        run = client.follow("R", after_seq=2)
        assert [event.seq async for event in run.events()] == [3, 4]
        assert run.session_key == "agent:main:main"
        unknown = client.follow("absent")
        with pytest.raises(CallFailed):
            await unknown.result(10)


async def test_a_following_that_breaks_off_says_why(fake: FakeGateway, connect: Connect) -> None:
    fake.runs["R"] = FakeRun("R")
    async with connect() as client:
        run = client.follow("R")
        await fake.until_asked("runs.follow")
        data = {"reason": "no longer kept", "code": "events_expired"}
        await fake.tell("agent", {"runId": "R", "stream": "error", "data": data})
        with pytest.raises(CallFailed, match="no longer kept"):
            await run.result(10)


async def test_waiting_for_a_result_ends_in_time(fake: FakeGateway, connect: Connect) -> None:
    async with connect() as client:
        run = await client.run_agent("hi")
        with pytest.raises(TimedOut):
            await run.result(0.02)


async def test_a_gateway_that_refuses_the_return_ends_the_client(
    fake: FakeGateway, connect: Connect
) -> None:
    async with connect() as client:
        run = await client.run_agent("hi")
        events = client.events()
        fake.refusal = {"code": "INVALID_REQUEST", "message": "the token has changed"}
        await fake.drop()
        with pytest.raises(HandshakeRefused, match="has changed"):
            await run.result(10)
        with pytest.raises(HandshakeRefused, match="has changed"):
            async for _ in events:
                pass


async def test_a_gateway_that_stays_away_is_given_up(fake: FakeGateway, connect: Connect) -> None:
    async with connect(backoff=Backoff(give_up_after=0)) as client:
        run = await client.run_agent("hi")
        fake.close_with = (1013, "gateway starting")
        await fake.drop()
        with pytest.raises(ConnectionLost, match="Reconnecting to the Gateway failed"):
            await run.result(10)


async def test_who_says_nothing_for_two_ticks_is_gone(fake: FakeGateway, connect: Connect) -> None:
    fake.tick_ms = 20
    states: asyncio.Queue[State] = asyncio.Queue()
    async with connect(on_state=states.put_nowait):
        while await states.get() is not State.RECONNECTING:
            pass
    assert fake.closes[0] == 4000


async def test_a_gap_in_the_numbers_is_told(fake: FakeGateway, connect: Connect) -> None:
    gaps: list[tuple[int, int]] = []
    async with connect(on_gap=lambda *gap: gaps.append(gap)) as client:
        with client.events("tick") as ticks:
            for seq in (1, 2, 5, 6):
                await fake.tell("tick", {}, seq)
            assert [(await anext(ticks)).seq for _ in range(4)] == [1, 2, 5, 6]
    assert gaps == [(3, 5)]


async def test_what_is_no_frame_is_passed_over(fake: FakeGateway, connect: Connect) -> None:
    fake.answers["health"] = {"fine": 1}
    async with connect() as client:
        with client.events("presence") as events:
            [socket] = fake.sockets
            await socket.send_str("{")
            await socket.send_str("[]")
            await socket.send_bytes(b"\x00")
            await send(socket, type="res", id="unknown", ok=True, payload={})
            await fake.tell("tick", {})
            await fake.tell("presence", {"presence": []})
            assert (await anext(events)).name == "presence"
        assert await client.health() == {"fine": 1}
