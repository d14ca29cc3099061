"""The load balancer of deploy/compose.yaml in front of nodes, found by DNS."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import openai
import pytest

from opensoul.client import Client, TextDelta
from tests.e2e.process import free_port

from .deployments import DEPLOY
from .dns_server import dns_server
from .test_postgres_nodes import TOKEN, Place, deployment, started, until_ready

ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")


@asynccontextmanager
async def balancer(port: int) -> AsyncIterator[str]:
    """The address of HAProxy with the file of Compose, in front of the nodes at `port`."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no HAProxy: install the package haproxy")
    listen = f"127.0.0.1:{free_port()}"
    async with dns_server(ADDRESSES) as dns:
        process = await asyncio.create_subprocess_exec(
            program,
            "-f",
            DEPLOY / "haproxy.cfg",
            env={
                "OPENSOUL_DNS": dns,
                "OPENSOUL_LISTEN": listen,
                "OPENSOUL_NODES": f"opensoul:{port}",
            },
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            await until_ready(f"http://{listen}/readyz")
            yield f"http://{listen}"
        finally:
            process.terminate()
            await process.wait()


async def test_any_node_behind_the_balancer_answers_also_when_one_has_ended(
    postgres_url: str, tmp_path: Path
) -> None:
    port = free_port()
    places = [Place(address, port) for address in ADDRESSES]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = {"model": "opensoul", "user": "alice", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        started(deployment("compose"), tmp_path, postgres_url, places) as running,
        balancer(port) as url,
        aiohttp.ClientSession(headers=headers) as client,
    ):
        for number in range(12):
            if number == 6:
                await asyncio.to_thread(running[0][1].stop)
            async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                # The session of alice goes on, whichever node has it.
                text = (await answer.json())["choices"][0]["message"]["content"]
                assert text == f"[echo after {2 * number} messages] hi"
        websocket = url.replace("http", "ws", 1)
        async with Client.connect(websocket, token=TOKEN, scopes=["operator.write"]) as control:
            run = await control.run_agent("and over WebSocket", session_key="trip-7")
            said = [event.text async for event in run.events() if isinstance(event, TextDelta)]
        assert "over WebSocket" in "".join(said)


async def test_a_rolling_restart_behind_the_balancer_costs_its_clients_nothing(
    postgres_url: str, tmp_path: Path
) -> None:
    """Clients keep their connections and try nothing again, also where they cannot connect."""
    port = free_port()
    places = [Place(address, port) for address in ADDRESSES]
    over = asyncio.Event()
    async with (
        started(deployment("compose"), tmp_path, postgres_url, places) as running,
        balancer(port) as url,
    ):

        async def ask(pause: float) -> int:
            count = 0
            async with openai.AsyncOpenAI(
                base_url=f"{url}/v1", api_key=TOKEN, max_retries=0
            ) as client:
                while not over.is_set():
                    answer = await client.chat.completions.create(
                        model="opensoul", messages=[{"role": "user", "content": "hi"}]
                    )
                    assert answer.choices[0].message.content == "[echo after 0 messages] hi"
                    count += 1
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await over.wait()
            return count

        async with asyncio.TaskGroup() as clients:
            asking = [clients.create_task(ask(pause)) for pause in (0, 0, 0.05, 0.5, 1.5, 3)]
            for (_, process), place in zip(running, places, strict=True):
                assert await asyncio.to_thread(process.stop) == 0
                process.launch()
                await until_ready(f"{place.url}/readyz")
            over.set()
        counts = [each.result() for each in asking]
    print(f"{len(running)} restarts behind HAProxy: {sum(counts)} answers, {counts}")
    assert min(counts) > len(running)
