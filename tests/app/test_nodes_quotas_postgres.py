"""The limits of API keys over several Gateways with one database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.app.grants import first_text, rest
from tests.app.keyed import administer, ask, asked, content, created, provider
from tests.app.nodes import serving_nodes
from tests.app.quiet_nodes import never
from tests.app.serving import SECRET, Served
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider

__all__ = ["provider"]


@pytest_asyncio.fixture
async def nodes(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[list[Served]]:
    roles = ("all",) * 4
    async with serving_nodes(tmp_path, emptied_postgres, content(provider), roles, never) as nodes:
        yield nodes


async def test_four_nodes_admit_the_requests_of_a_minute_together(nodes: list[Served]) -> None:
    key = await created(nodes[0], "slow", requestsPerMinute=12)
    responses = await asyncio.gather(*(asked(nodes[n % 4], key) for n in range(24)))
    statuses = Counter(response.status for response in responses)
    # One more comes every five seconds.
    assert statuses[200] >= 12
    assert statuses[429] >= 10
    refused = next(response for response in responses if response.status == 429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 5
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert (await asked(nodes[0], SECRET)).status == 200


@pytest.mark.parametrize("roles", [("all", "all"), ("gateway", "gateway", "worker")])
async def test_runs_at_once_are_those_of_all_nodes(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider, roles: tuple[str, ...]
) -> None:
    gate = asyncio.Event()
    provider.will(answer("Hel", "lo!", gate=gate))
    async with serving_nodes(tmp_path, emptied_postgres, content(provider), roles, never) as (
        one,
        other,
        *_,
    ):
        key = await created(one, "single", runsAtOnce=1)
        async with ask(one, key, stream=True) as running:
            await first_text(running)
            assert running.headers["x-ratelimit-remaining-runs"] == "0"
            refused = await asked(other, key)
            assert refused.status == 429
            assert refused.headers["x-ratelimit-remaining-runs"] == "0"
            gate.set()
            assert "[DONE]" in await rest(running)
        for node in (one, other, one):  # Each is released before its answer is complete.
            assert (await asked(node, key)).status == 200


async def test_a_run_that_is_left_makes_room_at_the_other_node(
    nodes: list[Served], provider: FakeProvider
) -> None:
    key = await created(nodes[0], "single", runsAtOnce=1)
    provider.will(hang_after("Hel"))
    async with ask(nodes[0], key, stream=True) as running:
        await first_text(running)
        left = await provider.arrival()
    await left.disconnected.wait()
    while (response := await asked(nodes[1], key)).status == 429:
        pass  # The run is being stopped.
    assert response.status == 200


async def test_what_one_node_has_used_counts_at_the_others(nodes: list[Served]) -> None:
    key = await created(nodes[0], "poor", tokensPerMonth=10)
    first = await asked(nodes[0], key)
    assert first.status == 200
    while (usage := await administer(nodes[1], "usage.keys"))["keys"] == []:
        pass  # It is being written.
    assert usage["keys"][0]["totals"]["totalTokens"] >= 10
    for node in nodes[1:]:
        assert (await asked(node, key)).status == 429
