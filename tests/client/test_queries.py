"""The typed answers, and what is made of answers that leave things out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opensoul.client import (
    Aborted,
    ChatMessage,
    ConnectionLost,
    Events,
    Failed,
    Finished,
    LogPage,
    ReaderTooSlow,
    ReasoningDelta,
    Started,
    TextDelta,
)
from opensoul.client.events import MAX_UNREAD
from opensoul.client.frames import Event
from opensoul.client.handshake import read_hello
from opensoul.client.options import Backoff
from opensoul.client.results import text_of
from opensoul.client.run_events import RunEvent, read_run_event

from .conftest import Connect
from .fake_gateway import FakeGateway


async def test_runs_are_read(fake: FakeGateway, connect: Connect) -> None:
    row = {"runId": "R", "sessionKey": "k", "agentId": "a", "status": "running", "startedAt": 1500}
    fake.answers |= {"runs.list": {"runs": [row, "no row"], "nextCursor": "c"}, "runs.get": row}
    async with connect() as client:
        page = await client.runs(session_key="k", limit=1)
        assert page.next_cursor == "c"
        [run] = page.runs
        assert (run.id, run.started_at, run.ended_at, run.live) == ("R", 1.5, None, True)
        assert await client.run("R") == run
    assert fake.methods("runs.list") == [{"sessionKey": "k", "limit": 1}]


async def test_a_run_is_aborted_by_its_id(fake: FakeGateway, connect: Connect) -> None:
    fake.answers["runs.abort"] = {"aborted": False}
    async with connect() as client:
        assert not await client.abort_run("R")


async def test_sessions_agents_and_models_are_read(fake: FakeGateway, connect: Connect) -> None:
    session = {"key": "agent:a:x", "label": "l", "updatedAt": 2000, "totalTokens": 3}
    fake.answers |= {
        "sessions.list": {"sessions": [session | {"hasActiveRun": True}], "nextOffset": 1},
        "agents.list": {"defaultId": "a", "agents": [{"id": "a", "name": "A"}, {"id": "b"}]},
        "models.list": {"models": [{"id": "m", "provider": "p", "contextWindow": True}]},
    }
    async with connect() as client:
        page = await client.sessions(agent_id="a")
        [info] = page.sessions
        assert (info.agent_id, info.label, info.updated_at) == ("a", "l", 2.0)
        assert (info.total_tokens, info.running, page.next_offset) == (3, True, 1)
        assert [(agent.id, agent.default) for agent in await client.agents()] == [
            ("a", True),
            ("b", False),
        ]
        [model] = await client.models()
        assert (model.id, model.provider, model.context_window) == ("m", "p", None)


async def test_history_logs_and_status_are_read(fake: FakeGateway, connect: Connect) -> None:
    fake.answers |= {
        "chat.history": {"messages": [{"role": "user", "content": "hi", "timestamp": 1000}]},
        "logs.tail": {"lines": ["one", "two"], "cursor": 7},
        "status": {"runs": {}},
    }
    async with connect() as client:
        [message] = await client.history("k")
        assert (message.role, message.text, message.at) == ("user", "hi", 1.0)
        assert await client.logs(cursor=3) == LogPage(("one", "two"), 7)
        assert await client.status() == {"runs": {}}
    assert fake.methods("logs.tail") == [{"limit": 200, "cursor": 3}]


async def test_answers_of_another_shape_are_empty(fake: FakeGateway, connect: Connect) -> None:
    for method in ("runs.list", "sessions.list", "agents.list", "logs.tail", "health"):
        fake.answers[method] = {"ok": True, "payload": ["odd"]}
    async with connect() as client:
        assert (await client.runs()).runs == ()
        assert (await client.sessions()).sessions == ()
        assert await client.agents() == ()
        assert (await client.logs()).lines == ()
        assert await client.health() == {}


def test_a_text_is_put_together_of_its_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, "x", {"type": "text", "text": "b"}]
    assert text_of(parts) == "ab"
    assert text_of(None) == ""
    assert ChatMessage("user", "x").raw == {}


def payload(stream: str, **data: Any) -> dict[str, Any]:
    return {"runId": "R", "seq": 1, "stream": stream, "data": data}


@pytest.mark.parametrize(
    ("told", "event"),
    [
        (payload("assistant", delta="a"), TextDelta(1, "a")),
        (payload("thinking", delta="a"), ReasoningDelta(1, "a")),
        (payload("lifecycle", phase="start"), Started(1)),
        (payload("lifecycle", phase="end", stopReason="stop"), Finished(1, "stop")),
        (payload("lifecycle", phase="end", aborted=True, reason="r"), Aborted(1, "r")),
        (payload("lifecycle", phase="error", error="e", code="c"), Failed(1, "e", "c")),
        (payload("lifecycle", phase="model"), None),
        (payload("tool", phase="start"), None),
        ({"stream": "assistant", "data": {}}, None),
    ],
)
def test_events_of_a_run_are_read(told: dict[str, Any], event: RunEvent | None) -> None:
    assert read_run_event(told) == event


def test_a_greeting_that_leaves_things_out_is_read() -> None:
    hello = read_hello({})
    assert (hello.protocol, hello.tick, hello.max_payload, hello.scopes) == (0, 30.0, 0, ())


def test_waits_grow_up_to_a_limit() -> None:
    waits = Backoff(first=1, factor=2, longest=3, jitter=0).waits()
    assert [next(waits) for _ in range(4)] == [1, 2, 3, 3]
    assert 0.5 <= next(Backoff(jitter=0.5).waits()) <= 1


async def test_who_reads_too_slowly_is_told() -> None:
    events = Events(frozenset(), lambda _: None)
    for number in range(MAX_UNREAD + 1):
        events.put(Event("tick", number))
    events.fail(ConnectionLost("later"))
    assert [(await anext(events)).payload for _ in range(2)] == [0, 1]
    with pytest.raises(ReaderTooSlow):
        async for _ in events:
            pass


async def test_a_closed_reader_ends(fake: FakeGateway, connect: Connect) -> None:
    async with connect() as client:
        with client.events() as events:
            reading = asyncio.ensure_future(anext(events, None))
        assert await reading is None
        assert client.options.platform
