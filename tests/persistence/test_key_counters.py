"""What every KeyCounters promises; in PostgreSQL for several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import cycle

import pytest

from opensoul.adapters.persistence.memory import MemoryKeyCounters
from opensoul.adapters.persistence.postgres import Database, PostgresKeyCounters
from opensoul.domain.errors import StoreFailed
from opensoul.domain.ports import KeyCounters, RunAdmission

from .postgres_stores import opened_database
from .run_logs import HandClock

NEW, KNOWN, FULL = RunAdmission.NEW, RunAdmission.KNOWN, RunAdmission.FULL
NODES = 4


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def databases(emptied_postgres: str) -> AsyncIterator[list[Database]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(opened_database(emptied_postgres)) for _ in range(NODES)
        ]


@pytest.fixture(params=["one process", "postgres, one process", "postgres, four processes"])
async def nodes(
    request: pytest.FixtureRequest, clock: HandClock
) -> AsyncIterator[Sequence[KeyCounters]]:
    """Four that count together: the same one, or those of four processes."""
    if request.param == "one process":
        yield [MemoryKeyCounters(clock)] * NODES
        return
    async with AsyncExitStack() as stack:
        url = request.getfixturevalue("emptied_postgres")
        count = NODES if "four" in request.param else 1
        made = [
            PostgresKeyCounters(
                await stack.enter_async_context(opened_database(url)), steady=clock, clock=clock
            )
            for _ in range(count)
        ]
        yield made * (NODES // count)
        for counters in made:
            await counters.flush()


async def admitted(nodes: Sequence[KeyCounters], per_minute: int, key: str = "key_1") -> int:
    """How many requests are admitted until all nodes refuse one, each node in its turn."""
    count, refusing = 0, set[int]()
    for number in cycle(range(len(nodes))):
        if await nodes[number].take(key, per_minute):
            refusing.add(number)
            if len(refusing) == len(nodes):
                return count
        else:
            count += 1
    raise AssertionError


@pytest.mark.parametrize("per_minute", [1, 60, 1_200])
async def test_the_nodes_admit_the_requests_of_a_minute_together(
    nodes: Sequence[KeyCounters], clock: HandClock, per_minute: int
) -> None:
    assert await admitted(nodes, per_minute) == per_minute
    clock.now += 30.0
    half = await admitted(nodes, per_minute)
    assert half == per_minute // 2
    clock.now += 600.0
    assert await admitted(nodes, per_minute) == per_minute
    assert await admitted(nodes, per_minute, "key_2") == per_minute


async def test_what_other_nodes_have_taken_and_not_used_is_a_hundredth(
    nodes: Sequence[KeyCounters],
) -> None:
    for node in nodes[1:]:
        assert await node.take("key_1", 1_200) == 0
    assert await admitted(nodes[:1], 1_200) >= (1_200 - 3) * 0.99


async def test_a_request_that_is_refused_says_when_the_next_one_is_there(
    nodes: Sequence[KeyCounters], clock: HandClock
) -> None:
    one, other = nodes[:2]
    assert one.left("key_1", 2) == 2
    assert [await node.take("key_1", 2) for node in (one, other)] == [0, 0]
    assert await one.take("key_1", 2) == pytest.approx(30.0)
    assert other.left("key_1", 2) == 0
    clock.now += 20.0
    assert await one.take("key_1", 2) == pytest.approx(10.0)
    clock.now += 10.0
    assert await other.take("key_1", 2) == 0
    assert await one.take("key_1", 2) == pytest.approx(30.0)


async def test_another_limit_counts_at_once(nodes: Sequence[KeyCounters]) -> None:
    assert await admitted(nodes, 2) == 2
    assert await admitted(nodes, 1) == 0


async def test_requests_at_the_same_time_are_counted_each(nodes: Sequence[KeyCounters]) -> None:
    waits = await asyncio.gather(*(nodes[n % NODES].take("key_1", 10) for n in range(40)))
    assert waits.count(0) == 10


async def begin(node: KeyCounters, run: str, key: str = "key_1") -> RunAdmission:
    return await node.begin(key, run, 2, known=False)


async def test_runs_at_once_are_those_of_all_nodes(nodes: Sequence[KeyCounters]) -> None:
    one, other = nodes[:2]
    assert [await begin(one, "a"), await begin(other, "b")] == [NEW, NEW]
    assert [await begin(node, "c") for node in nodes] == [FULL] * NODES
    assert [await begin(node, "a") for node in nodes] == [KNOWN] * NODES
    assert await begin(one, "d", "key_2") is NEW
    assert other.running("key_1") == 2


async def test_a_run_that_is_not_begun_makes_room(nodes: Sequence[KeyCounters]) -> None:
    one, other = nodes[:2]
    await begin(one, "a")
    await begin(other, "b")
    assert await begin(one, "a") is KNOWN  # The same run, requested again,
    one.release("key_1", "a")  # and found.
    await one.flush()
    assert await begin(one, "c") is FULL
    one.release("key_1", "a")
    await one.flush()
    assert one.running("key_1") == 1
    assert await begin(other, "c") is NEW
    other.stopped("key_1", "c")
    other.stopped("key_1", "c")
    await other.flush()
    assert await begin(one, "d") is NEW


async def test_of_runs_at_the_same_time_no_more_are_admitted(nodes: Sequence[KeyCounters]) -> None:
    found = await asyncio.gather(*(begin(nodes[n % NODES], f"r{n}") for n in range(12)))
    assert sorted(found) == [FULL] * 10 + [NEW] * 2


async def test_a_known_run_and_a_key_without_a_limit_are_admitted(
    nodes: Sequence[KeyCounters],
) -> None:
    assert await nodes[0].begin("key_1", "a", 0, known=True) is KNOWN
    for number in range(5):
        assert await nodes[0].begin("key_1", f"r{number}", None, known=False) is NEW


async def test_runs_of_a_dead_node_do_not_count_for_ever_in_postgres(
    databases: list[Database],
) -> None:
    dead, alive = (PostgresKeyCounters(database) for database in databases[:2])
    await begin(dead, "a")
    await begin(dead, "b")
    assert await begin(alive, "c") is FULL
    await databases[1].execute("UPDATE key_runs SET admitted_at = admitted_at - 31")
    assert await begin(alive, "c") is NEW


async def test_a_key_without_limits_costs_no_query_in_postgres() -> None:
    closed = PostgresKeyCounters(Database("postgresql://nobody@127.0.0.1:1/nothing"))
    assert await closed.begin("key_1", "a", None, known=False) is NEW
    closed.release("key_1", "a")
    closed.stopped("key_1", "a")
    await closed.flush()


@pytest.mark.parametrize("per_minute", [60, 1_200])
async def test_without_the_database_requests_do_not_wait_for_one_another_in_postgres(
    per_minute: int,
) -> None:
    counters = PostgresKeyCounters(Database("postgresql://nobody@127.0.0.1:1/nothing"))
    takes = (counters.take("key_1", per_minute) for _ in range(5))
    failures = await asyncio.gather(*takes, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreFailed] * 5


async def test_a_hundred_requests_at_the_same_time_leave_no_more_than_a_batch_in_postgres(
    databases: list[Database], clock: HandClock
) -> None:
    one, other = (
        PostgresKeyCounters(database, steady=clock, clock=clock) for database in databases[:2]
    )
    assert not any(await asyncio.gather(*(one.take("key_1", 4_000) for _ in range(100))))
    assert await admitted([other], 4_000) >= 4_000 - 100 - 9
