"""Tool calls of workers that are killed at random moments.

OPENSOUL_TOOL_KILLS sets how often; 6 by default.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from pathlib import Path

import pytest

from tests.cluster.nodes import Machines, machines
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

SHORTEST, LONGEST = 0.2, 2.0
"""Seconds between two kills."""
KILLS_PER_SESSION = 10
PATIENCE = 300.0


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("kills", [int(os.environ.get("OPENSOUL_TOOL_KILLS", "6"))])
async def test_no_call_that_must_not_be_repeated_is_made_twice(tmp_path: Path, kills: int) -> None:
    seed = secrets.randbelow(1_000_000)
    chance = random.Random(seed)  # noqa: S311 - moments, no secrets
    marks = tmp_path / "marks"
    environment = install(tmp_path / "packages", marks)
    roles = {"a": "gateway", "b": "gateway", "w1": "worker", "w2": "worker"}
    model = Model(marks)
    sessions: list[Session] = []
    async with FakeProvider(model.behave) as provider:
        whole = gateway_config(provider.base_url)
        sections = {name: whole[name] for name in ("agents", "models", "tools")}
        sections["node"] = {"leaseSeconds": 1}
        async with machines(tmp_path, roles, environment=environment, **sections) as started:
            for first in range(0, kills, KILLS_PER_SESSION):
                own = new_sessions(str(first), chance)
                sessions += own
                await _killed(started, own, min(KILLS_PER_SESSION, kills - first), chance)
            await _settled(started, sessions)
    check_calls(model, sessions, marks, kills=kills, seed=seed)


async def _killed(
    started: Machines, sessions: list[Session], kills: int, chance: random.Random
) -> None:
    """The sessions ask at both gateways, which live, while workers are killed."""
    clients = [
        asyncio.create_task(session.live(started["ab"[n % 2]].url))
        for n, session in enumerate(sessions)
    ]
    for _ in range(kills):
        await asyncio.wait(
            clients,
            timeout=chance.uniform(SHORTEST, LONGEST),
            return_when=asyncio.FIRST_COMPLETED,
        )
        worker = chance.choice(started.workers)
        await worker.kill()
        await worker.start()
    for client in clients:
        assert not client.done() or client.result() is None
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


async def _settled(started: Machines, sessions: list[Session]) -> None:
    """Wait for what is open, and have the model read each whole conversation."""
    async with asyncio.timeout(PATIENCE):
        for session in sessions:
            if session.open:
                await session.ask(started["a"].url, steps=0)
            session.open = f"task {session.agent}-{session.name}-last 0"
            await session.ask(started["b"].url, steps=0)
