"""The database is away for a while: what clients get meanwhile, and what becomes of their Runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from opensoul.adapters.persistence.postgres import Database
from opensoul.domain.access import ALL_SCOPES, Principal
from opensoul.domain.runs import RunQuery, RunStatus
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider
from tests.persistence.postgres_server import Cluster, private_cluster, server_programs

from .nodes import node, nodes
from .serving import SECRET, Served

PATIENCE = 60.0
"""Seconds; after that it hangs."""
OPERATOR = Principal("operator", ALL_SCOPES, "test")


@pytest.fixture
def cluster(postgres_server: str) -> Iterator[Cluster]:
    """A server that the test stops. (The other fixture skips where none is installed.)"""
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL itself is needed")
    with private_cluster(programs, durable=True) as private:
        yield private


async def ready(served: Served) -> int:
    async with served.client.get("/readyz") as response:
        return response.status


async def until_ready(served: Served) -> None:
    async with asyncio.timeout(PATIENCE):
        while await ready(served) != 200:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)


async def statuses(served: Served) -> list[str]:
    page = await served.container.gateway().runs(OPERATOR, RunQuery())
    return [run.status for run in page.runs]


async def test_requests_are_refused_while_the_database_is_away_and_accepted_afterwards(
    tmp_path: Path, cluster: Cluster
) -> None:
    async with (
        FakeProvider() as provider,
        nodes(tmp_path, cluster.url, provider.base_url, a="gateway", b="worker") as (a, b),
    ):
        assert await a.text() == "Hello there"
        cluster.stop()
        refused = []
        for _ in range(2):
            async with a.ask() as response:
                refused.append((response.status, response.headers.get("Retry-After")))
        states = [await ready(a), await ready(b)]
        cluster.start()
        for served in (a, b):
            await until_ready(served)

        assert refused == [(503, "5")] * 2
        assert states == [503, 503]
        assert await a.text() == "Hello there"


async def test_a_run_goes_on_while_the_database_is_away_for_longer_than_its_lease(
    tmp_path: Path, cluster: Cluster
) -> None:
    gate = asyncio.Event()
    async with (
        FakeProvider(answer("Hel", "lo!", gate=gate)) as provider,
        node(tmp_path, cluster.url, provider.base_url, lease=3) as served,
        served.ask(stream=True, user="u") as response,
    ):
        await response.content.readuntil(b"Hel")
        cluster.stop()
        held = served.container.run_events().held  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE):
            while not held.any_overdue():  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.05)
        gate.set()
        await asyncio.wait_for(response.content.readuntil(b"lo!"), PATIENCE)
        cluster.start()
        rest = await asyncio.wait_for(response.read(), PATIENCE)
        page = await served.container.gateway().runs(OPERATOR, RunQuery())
        await until_ready(served)
        following = await served.text(user="u")

        assert b"[DONE]" in rest
        assert [(run.status, run.attempt) for run in page.runs] == [(RunStatus.FINISHED, 1)]
        assert following == "Hello!"
        asked = provider.requests[-1].json["messages"]
        assert [message["content"] for message in asked] == ["hello", "Hello!", "hello"]


async def test_what_cannot_be_read_is_no_outage(tmp_path: Path, postgres_url: str) -> None:
    database = Database(postgres_url, connections=(1, 1))
    await database.open()
    with pytest.raises(Exception, match="cannot be used"):
        await database.rows("SELECT 1/0")
    assert not database.away_within(60)
    await database.close()


async def test_a_request_is_refused_where_the_database_is_reached_but_does_not_answer(
    tmp_path: Path, postgres_url: str
) -> None:
    async with (
        FakeProvider() as provider,
        node(tmp_path, postgres_url, provider.base_url) as served,
    ):
        with psycopg.connect(postgres_url) as blocking:
            blocking.execute("LOCK TABLE lanes")
            async with served.ask() as response:
                refused = (response.status, response.headers.get("Retry-After"))
        async with asyncio.timeout(PATIENCE):
            while await statuses(served) != ["aborted"]:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.02)

        assert refused == (503, "5")
        assert await served.text() == "Hello there"


async def test_a_process_ends_while_the_database_is_away(tmp_path: Path, cluster: Cluster) -> None:
    gate = asyncio.Event()
    async with (
        FakeProvider(answer("Hel", "lo!", gate=gate)) as provider,
        node(
            tmp_path,
            cluster.url,
            provider.base_url,
            gateway={
                "auth": {"token": SECRET},
                "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
                "shutdown": {"graceSeconds": 0},
            },
        ) as served,
        served.ask(stream=True) as response,
    ):
        await response.content.readuntil(b"Hel")
        cluster.stop()
        await asyncio.wait_for(served.container.lifecycle().stop(), PATIENCE)
        cluster.start()

        assert b"[DONE]" not in await response.read()
