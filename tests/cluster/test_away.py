"""The database is away for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from opensoul.client import Finished
from tests.app.serving import SECRET
from tests.cluster.nodes import machines, question, text

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

AWAY = 8.0
"""Seconds, longer than a lease."""
ROLES = {"a": "gateway", "b": "gateway", "w1": "worker", "w2": "worker"}


async def test_no_process_ends_and_no_run_is_lost_while_the_database_is_away(
    tmp_path: Path,
) -> None:
    async with machines(tmp_path, ROLES) as started, aiohttp.ClientSession() as http:
        pids = {node.pid for node in started.nodes.values()}
        async with started["a"].client() as client:
            runs = [
                await client.run_agent(question(f"away-{n}", 100, 0.05), session_key=f"s-{n}")
                for n in range(4)
            ]
            for run in runs:
                await started.work.until("token", run.run_id, 3)
            await asyncio.to_thread(started.postgres.stop)
            refused, _ = await chat(http, started["b"].url, "refused")
            ready = await status_of(http, f"{started['b'].url}/readyz")
            alive = await status_of(http, f"{started['b'].url}/healthz")
            await asyncio.sleep(AWAY)
            await asyncio.to_thread(started.postgres.start)
            for n, run in enumerate(runs):
                events = [event async for event in run.events()]
                assert [event.seq for event in events] == list(range(1, len(events) + 1))
                assert isinstance(events[-1], Finished), events[-1]
                assert run.text == text(f"away-{n}", 100)
        answers = [await until_answered(http, started[at].url, f"after-{at}") for at in "ab"]

    assert (refused, ready, alive) == (503, 503, 200)
    assert answers == [text("after-a"), text("after-b")]
    assert pids == {node.pid for node in started.nodes.values()}


async def chat(http: aiohttp.ClientSession, url: str, name: str) -> tuple[int, str]:
    body = {"model": "opensoul", "messages": [{"role": "user", "content": question(name)}]}
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        said = await response.json()
    if response.status != 200:
        return response.status, str(said)
    return 200, said["choices"][0]["message"]["content"]


async def until_answered(http: aiohttp.ClientSession, url: str, name: str) -> str:
    async with asyncio.timeout(60):
        while True:
            status, content = await chat(http, url, name)
            if status == 200:
                return content
            await asyncio.sleep(0.1)  # Its database is back, which it has not seen yet.


async def status_of(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as response:
        return response.status
