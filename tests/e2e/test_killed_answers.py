"""`kill -9` while an answer is streamed, and clients that come back for the rest of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.process import GatewayProcess
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.e2e

TOKEN = "a secret of the tests"
WORDS = tuple(f"word{number} " for number in range(30))
PATIENCE = 60.0
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
QUESTION = {"model": "opensoul", "messages": [{"role": "user", "content": "hello"}]}
GOES_ON = [{"Idempotency-Key": "k"}, {"x-opensoul-on-disconnect": "continue"}]


def config(provider_url: str) -> str:
    chat = {"endpoints": {"chatCompletions": {"enabled": True}}}
    return json.dumps(
        {
            "gateway": {"auth": {"token": TOKEN}, "http": chat},
            "agents": {"defaults": {"model": {"primary": "fake/m"}}},
            "models": {"providers": {"fake": {"baseUrl": provider_url, "models": [{"id": "m"}]}}},
        }
    )


async def read_until(response: aiohttp.ClientResponse, word: str) -> tuple[list[str], str]:
    """The ids and the text of a stream up to the event with that word."""
    ids, text = [], ""
    async for line in response.content:
        name, _, value = line.decode().strip().partition(": ")
        if name == "id":
            ids.append(value)
            if word in text:
                return ids, text
        elif name == "data" and value != "[DONE]":
            text += json.loads(value)["choices"][0]["delta"].get("content", "")
    return ids, text


async def events_behind(
    client: aiohttp.ClientSession, url: str, run_id: str, last: str
) -> list[dict[str, Any]]:
    path, headers = f"{url}/v1/runs/{run_id}/events", HEADERS | {"Last-Event-ID": last}
    async with client.get(path, headers=headers) as response:
        assert response.status == 200
        lines = (await response.text()).splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize("headers", GOES_ON, ids=["a key", "continue"])
async def test_a_client_comes_back_to_its_answer_after_kill_9(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with FakeProvider(answer(*WORDS, delay=0.02)) as provider:
        gateway = GatewayProcess(tmp_path, config(provider.base_url))
        async with gateway, aiohttp.ClientSession() as client, asyncio.timeout(PATIENCE):
            url = f"{gateway.url}/v1/chat/completions"
            body = QUESTION | {"stream": True}
            async with client.post(url, json=body, headers=HEADERS | headers) as response:
                run_id = response.headers["x-opensoul-run-id"]
                ids, _ = await read_until(response, WORDS[5])
            await asyncio.to_thread(gateway.kill)
            await asyncio.to_thread(gateway.start)

            events = await events_behind(client, gateway.url, run_id, ids[-1])

            seen = int(ids[-1].removeprefix(f"{run_id}:"))
            assert [event["seq"] for event in events] == [*range(seen + 1, seen + 1 + len(events))]
            assert events[-1]["type"] == "finished"
            assert events[-1]["text"] == "".join(WORDS)
            (resumed,) = [event for event in events if event["type"] == "resumed"]
            assert resumed["seq"] - resumed["void"] <= seen  # What it has read is void.
            rest = [event.get("delta", "") for event in events if event["seq"] > resumed["seq"]]
            assert "".join(rest) == "".join(WORDS)

            if "Idempotency-Key" in headers:
                async with client.post(url, json=body, headers=HEADERS | headers) as response:
                    assert response.headers["x-opensoul-run-id"] == run_id
                    again = (await read_until(response, "the end"))[1]
                assert again == "".join(WORDS)
            assert len(provider.requests) == 2
