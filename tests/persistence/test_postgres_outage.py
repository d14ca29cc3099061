"""What a process does with its Runs while it cannot reach the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from psycopg import OperationalError

from opensoul.adapters.persistence.postgres.availability import Availability
from opensoul.domain.errors import LeaseLost, StoreFailed
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.runs.events import Started
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.settings import LaneSettings
from tests.fakes.domain import run

from .postgres_runs import LEASE, node
from .postgres_server import Cluster, private_cluster, server_programs
from .run_logs import END, HandClock

MINUTE = 60.0
ONE = LaneSettings(max_concurrent=1)
_LONG_AGO = """
    CREATE OR REPLACE FUNCTION server_started() RETURNS double precision LANGUAGE sql STABLE
        AS 'SELECT 0::double precision'"""


@pytest.fixture
def cluster(postgres_server: str) -> Iterator[Cluster]:
    """A server that the test stops. (The other fixture skips where none is installed.)"""
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL itself is needed")
    with private_cluster(programs, durable=True) as private:
        yield private


async def test_a_run_goes_on_for_a_minute_without_the_database_and_no_longer(
    cluster: Cluster,
) -> None:
    steady = HandClock(0.0)
    async with node(cluster.url, steady=steady, patience=0.1) as one:
        claim = await one.claimed(run())
        await one.events.append(claim, [Started(0, 0)])
        followed = one.events.follow("run-1")
        await anext(followed)
        cluster.stop()
        with pytest.raises(StoreFailed):
            await one.database.rows("SELECT 1")
        steady.now = LEASE + 1
        await one.events.append(claim, [TextDelta("on")])
        assert (await anext(followed)).events == (TextDelta("on"),)
        steady.now = MINUTE + 1
        with pytest.raises(LeaseLost):
            await one.events.append(claim, [TextDelta("no longer")])
        with pytest.raises(StoreFailed, match="does not execute run 'run-1' any more"):
            await anext(followed)
        cluster.start()


async def test_a_run_that_is_overdue_when_the_database_is_back_is_renewed_first(
    cluster: Cluster,
) -> None:
    """Nothing is claimed before, or a process would take over its own Runs."""
    steady = HandClock(0.0)
    async with node(cluster.url, steady=steady, patience=0.1) as one:
        claim = await one.claimed(run())
        cluster.stop()
        with pytest.raises(StoreFailed):
            await one.database.rows("SELECT 1")
        steady.now = LEASE + 1
        cluster.start()
        await one.database.execute(_LONG_AGO)
        await one.database.execute("UPDATE runs SET lease_until = 0")
        await one.queue.look()

        assert list(await one.queue.renew("a", [claim])) == []
        await one.queue.finish(claim, END)
        assert one.hands.taken == [("run-1", 1)]


async def test_nothing_is_taken_over_in_the_first_lease_after_an_outage(cluster: Cluster) -> None:
    """A server that was not restarted, or replaced by its replica, is older than a lease."""
    steady = HandClock(0.0)
    async with (
        # It has no room for another run, which its bells would let it claim, too.
        node(cluster.url, "a", limits=lambda: ONE, steady=steady, patience=0.1) as one,
        node(cluster.url, "b", steady=steady, patience=0.1) as idle,
        node(cluster.url, "c", works=False) as gateway,
    ):
        claim = await one.claimed(run())
        cluster.stop()
        for at in (one, idle):
            with pytest.raises(StoreFailed):
                await at.database.rows("SELECT 1")
        steady.now = LEASE + 1
        cluster.start()
        await idle.database.execute(_LONG_AGO)
        await idle.database.execute("UPDATE runs SET lease_until = 0")
        await idle.queue.look()
        assert idle.hands.claims == []
        assert list(await one.queue.renew("a", [claim])) == []
        await gateway.queue.enqueue(run("run-2", session_key=SessionKey("main", "other")))
        async with asyncio.timeout(20):
            while not idle.hands.taken:
                await idle.queue.look()
        assert idle.hands.taken == [("run-2", 1)]
        await idle.queue.finish(idle.hands.claims[0], END)

        await one.database.execute("UPDATE runs SET lease_until = 0")
        steady.now += LEASE + 1
        await idle.queue.look()
        assert ("run-1", 2) in idle.hands.taken


def test_a_connection_that_is_replaced_at_once_is_no_outage() -> None:
    steady = HandClock(0.0)
    availability = Availability(steady)
    for seconds, outage in ((0.1, False), (10.0, True)):
        assert availability.failed(OperationalError("broken"), steady.now)
        assert availability.outage_within(60)
        steady.now += seconds
        availability.succeeded()
        assert availability.outage_within(60) is outage
    steady.now += 61
    assert not availability.outage_within(60)
