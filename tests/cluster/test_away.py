"""The database is away for a while; nodes are restarted one after the other."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from opensoul.client import Finished
from tests.app.serving import SECRET
from tests.cluster.nodes import Machines, machines, question, text

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


async def test_a_restart_of_each_node_in_turn_costs_no_answer(tmp_path: Path) -> None:
    """Clients try again where they cannot connect, as behind a load balancer. Each request has a
    connection of its own: a server that ends closes those that wait for another request, and a
    client cannot know whether one that it has just sent was read."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        machines(tmp_path, ROLES) as started,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        over = asyncio.Event()
        seen: Counter[str] = Counter()
        clients = [
            asyncio.create_task(_ask_until(over, http, started, f"client-{n}", seen))
            for n in range(6)
        ]
        for node in started.nodes.values():
            async with asyncio.timeout(120):
                assert await node.stop() == 0
                await node.start()
        over.set()
        await asyncio.gather(*clients)
    print(f"rolling restart of {len(ROLES)} nodes: {dict(seen)}")

    assert set(seen) <= {"answered", "not connected"}
    assert seen["answered"] > len(clients)


async def _ask_until(
    over: asyncio.Event,
    http: aiohttp.ClientSession,
    started: Machines,
    name: str,
    seen: Counter[str],
) -> None:
    number = 0
    gateways = started.gateways
    while not over.is_set():
        number += 1
        own = f"{name}-{number}"
        for at in range(1_000_000):
            url = gateways[(number + at) % len(gateways)].url
            try:
                status, content = await chat(http, url, own)
            except aiohttp.ClientConnectorError:
                seen["not connected"] += 1
                await asyncio.sleep(0.05)
                continue
            except aiohttp.ClientError as error:
                seen[f"{type(error).__name__}: {error}"] += 1
                break
            right = status == 200 and content == text(own)
            seen["answered" if right else f"{status}: {content}"] += 1
            break


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
