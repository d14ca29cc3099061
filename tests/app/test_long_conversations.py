"""Conversations that fill the window of their model, end to end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from opensoul.client import Client, CompactionEnded, CompactionStarted, Options, RunEvent, TextDelta
from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import connected
from tests.fakes import behaviours
from tests.fakes.behaviours import Exchange
from tests.fakes.openai import strict
from tests.fakes.provider import FakeProvider

LONG = "x" * 900
"""About 300 tokens."""


async def behaviour(exchange: Exchange) -> None:
    """Write a summary where one is asked for, and answer everything else."""
    first = exchange.request.json["messages"][0]
    wants_summary = first["role"] in ("system", "developer")
    text = "They counted." if wants_summary else "Counted."
    await strict(behaviours.answer(text))(exchange)


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(behaviour) as provider:
        yield provider


def content(provider: FakeProvider) -> dict[str, Any]:
    model = {"id": "m", "contextWindow": 2_000, "maxTokens": 300}
    url = {"baseUrl": provider.base_url, "apiKey": "k", "models": [model]}
    return config(provider.base_url, models={"providers": {"fake": url}})


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    async with serving(tmp_path, content(provider)) as served:
        yield served


async def say(served: Served, number: int) -> str:
    said = [{"role": "user", "content": f"{number} {LONG}"}]
    return await served.text({"x-opensoul-session-key": "main"}, messages=said)


def sent(provider: FakeProvider) -> list[str]:
    """The texts that the model was last sent."""
    return [message["content"] for message in provider.requests[-1].json["messages"]]


async def test_a_conversation_is_compacted_and_goes_on_after_a_restart(
    tmp_path: Path, provider: FakeProvider
) -> None:
    async with serving(tmp_path, content(provider)) as served:
        for number in range(8):
            assert await say(served, number) == "Counted."
    assert "They counted." in sent(provider)[0]
    requests = len(provider.requests)
    async with serving(tmp_path, content(provider)) as served:
        assert await say(served, 8) == "Counted."
        async with connected(served.client, SECRET) as peer:
            listed = await peer.call("sessions.list")
            history = await peer.call("chat.history", {"sessionKey": "main"})

    assert len(provider.requests) <= requests + 2
    assert "They counted." in sent(provider)[0]
    (row,) = listed["sessions"]
    assert row["compactionCount"] >= 1
    assert row["messageCount"] == 18
    questions = [m["content"][0]["text"] for m in history["messages"] if m["role"] == "user"]
    assert [text[:2] for text in questions] == [f"{number} " for number in range(9)]


async def test_clients_see_the_compaction(served: Served, provider: FakeProvider) -> None:
    async with (
        connected(served.client, SECRET) as peer,
        Client(Options(url=served.url.replace("http", "ws", 1), token=SECRET)) as client,
    ):
        ids: list[str] = []
        events: list[RunEvent] = []
        while not any(isinstance(event, CompactionEnded) for event in events):
            run = await client.run_agent(f"{len(ids)} {LONG}", session_key="main")
            events = [event async for event in run.events()]
            ids.append(run.run_id)
            assert len(ids) < 20
        await peer.call("runs.follow", {"runId": ids[-1]})
        told = [await peer.event("agent", stream="compaction") for _ in range(2)]
    start, end = (event["payload"]["data"] for event in told)

    kinds = [type(event) for event in events]
    assert kinds.index(CompactionStarted) + 1 == kinds.index(CompactionEnded)
    assert kinds.index(CompactionEnded) < kinds.index(TextDelta)
    assert start == {"phase": "start"}
    assert end.pop("tokensBefore") > end.pop("tokensAfter") > 0
    assert end == {"phase": "end", "willRetry": False}


async def test_a_stream_passes_over_the_compaction(served: Served) -> None:
    said = [{"role": "user", "content": LONG}]
    for _ in range(8):
        async with served.ask(
            {"x-opensoul-session-key": "main"}, messages=said, stream=True
        ) as response:
            text = await response.text()
        assert response.status == 200
        assert '"content":"Counted."' in text
        assert "compact" not in text
        assert text.endswith("data: [DONE]\n\n")


async def test_a_session_is_compacted_on_request(served: Served, provider: FakeProvider) -> None:
    async with connected(served.client, SECRET) as peer:
        nothing = await peer.call("sessions.compact", {"key": "nobody"})
        for number in range(3):
            await say(served, number)
        params = {"key": "main", "instructions": "Keep the numbers."}
        done = await peer.call("sessions.compact", params)

    assert (nothing["compacted"], nothing["reason"]) == (False, "no transcript")
    assert (done["ok"], done["compacted"], done["entry"]["compactionCount"]) == (True, True, 1)
    assert done["tokensBefore"] > done["tokensAfter"]
    assert "The user adds: Keep the numbers." in sent(provider)[-1]
    await say(served, 3)
    assert "They counted." in sent(provider)[0]
