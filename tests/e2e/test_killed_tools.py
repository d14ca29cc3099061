"""`kill -9` at random moments of runs with tool calls, and restarts on the same state."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from pathlib import Path

import pytest

from opensoul.client import Client
from tests.app.serving import SECRET
from tests.e2e.process import GatewayProcess
from tests.e2e.tool_runs import (
    Model,
    Session,
    check_calls,
    gateway_config,
    install,
    new_sessions,
)
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.e2e

EARLY = 0.15
"""The share of kills while the Gateway starts."""
LONGEST_LIFE = 0.8
KILLS_PER_SESSION = 10
PATIENCE = 120.0


async def killed_while_it_starts(gateway: GatewayProcess, seconds: float) -> None:
    await asyncio.to_thread(gateway.launch)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(gateway.kill)


async def killed_at_work(gateway: GatewayProcess, sessions: list[Session], seconds: float) -> None:
    await asyncio.to_thread(gateway.start)
    clients = [asyncio.create_task(session.live(gateway.url)) for session in sessions]
    await asyncio.wait(clients, timeout=seconds)
    await asyncio.to_thread(gateway.kill)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*clients)


async def settled(gateway: GatewayProcess, sessions: list[Session]) -> dict[str, int]:
    """Wait for what is open, and have the model read each whole conversation; the number of runs
    by their status."""
    async with asyncio.timeout(PATIENCE), gateway:
        for session in sessions:
            if session.open:
                await session.ask(gateway.url, steps=0)
            session.open = f"task {session.agent}-{session.name}-last 0"
            await session.ask(gateway.url, steps=0)
        url = gateway.url.replace("http", "ws", 1)
        async with Client.connect(url, token=SECRET) as client:
            statuses = {
                status: len((await client.runs(status=status)).runs)
                for status in ("queued", "running", "waiting")
            }
    return statuses


@pytest.mark.parametrize(
    "kills", [10, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])]
)
async def test_no_call_is_made_twice_and_no_step_is_lost(tmp_path: Path, kills: int) -> None:
    seed = secrets.randbelow(1_000_000)
    chance = random.Random(seed)  # noqa: S311 - moments, no secrets
    marks = tmp_path / "marks"
    environment = install(tmp_path / "packages", marks)
    model = Model(marks)
    sessions: list[Session] = []
    start = 1.0
    async with FakeProvider(model.behave) as provider:
        whole = json.dumps(gateway_config(provider.base_url))
        gateway = GatewayProcess(tmp_path, whole, environment=environment)
        for kill in range(kills):
            if kill % KILLS_PER_SESSION == 0:
                sessions += new_sessions(str(kill), chance)
            if chance.random() < EARLY:
                await killed_while_it_starts(gateway, chance.uniform(0, start))
            else:
                began = time.monotonic()
                await killed_at_work(gateway, sessions[-4:], chance.uniform(0, LONGEST_LIFE))
                start = (time.monotonic() - began + start) / 2
        unfinished = await settled(gateway, sessions)
    check_calls(model, sessions, marks, kills=kills, seed=seed)
    assert unfinished == {"queued": 0, "running": 0, "waiting": 0}
