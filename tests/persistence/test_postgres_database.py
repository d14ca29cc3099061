"""The connections to PostgreSQL, and the schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from secrets import token_hex

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import PoolTimeout

from opensoul.adapters.persistence.postgres import Database
from opensoul.adapters.persistence.postgres.availability import Availability
from opensoul.adapters.persistence.postgres.database import Connection
from opensoul.domain.errors import StoreFailed

from .pooler import server_of
from .postgres_server import DIRECT, private_cluster, server_programs


@asynccontextmanager
async def opened(
    url: str, connections: tuple[int, int] = (1, 4), patience: float = 5.0
) -> AsyncIterator[Database]:
    behind_pooler = bool(server_of(url))
    pool = Database(url, connections=connections, patience=patience, behind_pooler=behind_pooler)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


async def test_an_empty_database_gets_the_schema(postgres_url: str) -> None:
    async with opened(postgres_url) as pool:
        assert await pool.rows("SELECT count(*) FROM sessions") == [(0,)]


async def test_processes_that_start_together_migrate_once(postgres_url: str) -> None:
    behind_pooler = bool(server_of(postgres_url))
    pools = [
        Database(postgres_url, connections=(1, 1), behind_pooler=behind_pooler) for _ in range(4)
    ]
    await asyncio.gather(*(pool.open() for pool in pools))
    applied = await pools[0].rows("SELECT number FROM schema_migrations ORDER BY number")
    for pool in pools:
        await pool.close()

    assert len(applied) == len(set(applied)) > 0


async def test_stores_share_the_connections_until_the_last_one_is_closed(
    emptied_postgres: str,
) -> None:
    async with opened(emptied_postgres) as pool:
        await pool.open()
        await pool.close()
        assert await pool.rows("SELECT 1") == [(1,)]
    await pool.close()
    with pytest.raises(StoreFailed, match="not open"):
        await pool.rows("SELECT 1")


async def test_closing_waits_for_the_calls_in_progress(emptied_postgres: str) -> None:
    async with opened(emptied_postgres) as pool:
        asked = asyncio.create_task(pool.rows("SELECT pg_sleep(0.05)::text"))
        await asyncio.sleep(0)

    assert await asked == [("",)]


@DIRECT
async def test_a_connection_that_the_server_ended_is_replaced(emptied_postgres: str) -> None:
    name = f"opensoul-{token_hex(4)}"
    url = make_conninfo(emptied_postgres, application_name=name)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
    async with opened(url, (3, 3)) as pool:
        with psycopg.connect(emptied_postgres, autocommit=True) as other:
            assert len(other.execute(ended, (name,)).fetchall()) >= 3

        assert await asyncio.gather(*(pool.rows("SELECT 1") for _ in range(6))) == [[(1,)]] * 6


async def test_a_change_is_made_once_where_its_connection_breaks(postgres_url: str) -> None:
    """Before the commit it is made again; the commit itself is not repeated."""
    async with opened(postgres_url) as pool:
        await pool.execute("CREATE TABLE seen (number integer)")
        broken = 0

        async def insert(connection: Connection) -> None:
            nonlocal broken
            await connection.execute("INSERT INTO seen VALUES (1)")
            if not broken:
                broken = connection.info.backend_pid
                with psycopg.connect(postgres_url, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s)", (broken,))
            await connection.execute("INSERT INTO seen VALUES (2)")

        await pool.change(insert)
        assert await pool.rows("SELECT number FROM seen ORDER BY 1") == [(1,), (2,)]


async def test_what_fails_for_another_reason_is_not_repeated(emptied_postgres: str) -> None:
    async with opened(emptied_postgres) as pool:
        with pytest.raises(StoreFailed, match="nowhere"):
            await pool.execute("INSERT INTO nowhere VALUES (1)")
        assert await pool.rows("SELECT 1") == [(1,)]


async def test_calls_fail_while_the_server_is_away_and_succeed_after_it_is_back() -> None:
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL is installed, and a server that others use is not stopped")
    with private_cluster(programs) as cluster:
        async with opened(cluster.url, (2, 2), patience=0.5) as pool:
            await asyncio.to_thread(cluster.stop)
            for _ in range(3):
                with pytest.raises(StoreFailed):
                    await pool.rows("SELECT 1")
            await asyncio.to_thread(cluster.start)

            answers: list[object] = []
            async with asyncio.timeout(30):
                while not answers:
                    with suppress(StoreFailed):
                        answers = await asyncio.gather(pool.rows("SELECT 1"), pool.rows("SELECT 1"))
            assert answers == [[(1,)], [(1,)]]


async def test_a_call_waits_no_longer_than_its_patience_for_a_connection(
    emptied_postgres: str,
) -> None:
    pool = Database(
        emptied_postgres,
        connections=(1, 1),
        patience=0.05,
        behind_pooler=bool(server_of(emptied_postgres)),
    )
    await pool.open()
    release = asyncio.Event()

    async def hold(_: object) -> None:
        await release.wait()

    holding = asyncio.create_task(pool.run(hold))
    await asyncio.sleep(0)
    with pytest.raises(StoreFailed, match="no connection was to be had") as failure:
        await pool.rows("SELECT 1")
    assert failure.value.retry_after

    release.set()
    await holding
    await pool.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://localhost:1/none?connect_timeout=2", "cannot be opened"),
        ("host=/nowhere/at/all user=nobody", "cannot be opened"),
    ],
)
async def test_a_database_that_is_not_there_is_named(url: str, problem: str) -> None:
    with pytest.raises(StoreFailed, match=problem):
        await Database(url).open()


def test_an_address_that_cannot_be_read_is_refused_without_its_password() -> None:
    with pytest.raises(StoreFailed) as failure:
        Database("postgresql://somebody:secret@[::1/x")
    assert "secret" not in failure.value.message


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (PoolTimeout("no connection"), True),
        (psycopg.OperationalError("the connection broke"), True),
        (psycopg.errors.AdminShutdown("terminating"), True),
        (psycopg.errors.DiskFull("no space"), False),
        (psycopg.errors.UniqueViolation("there already"), False),
        (OSError("no route to host"), True),
    ],
)
def test_a_failed_call_shows_whether_the_database_can_be_reached(
    error: Exception, away: bool
) -> None:
    availability = Availability()
    assert availability.failed(error, time.monotonic()) is away
    assert availability.away_within(0) is away
    availability.succeeded()
    assert not availability.away_within(0)
    assert availability.away_within(60) is away


def test_a_pool_that_others_use_up_is_no_outage() -> None:
    availability = Availability()
    begun_at = time.monotonic() - 1
    availability.succeeded()
    assert not availability.failed(PoolTimeout("no connection"), begun_at)
    assert not availability.away_within(60)
