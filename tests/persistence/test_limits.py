"""What every Limits promises; in PostgreSQL for several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from opensoul.adapters.persistence.memory import MemoryLimits
from opensoul.adapters.persistence.postgres import PostgresLimits
from opensoul.domain.errors import LockedOut
from opensoul.domain.ports import Limits
from opensoul.domain.settings import LockoutSettings

from .postgres_stores import opened_database
from .run_logs import HandClock

SETTINGS = LockoutSettings(max_attempts=4, window=60.0, duration=300.0)
GUESSER, OTHER = "203.0.113.7", "203.0.113.8"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["one process", "postgres, one process", "postgres, two processes"])
async def nodes(
    request: pytest.FixtureRequest, clock: HandClock
) -> AsyncIterator[tuple[Limits, Limits]]:
    """Two that count together: the same one, or those of two processes."""
    if request.param == "one process":
        limits = MemoryLimits(clock)
        yield limits, limits
        return
    async with AsyncExitStack() as stack:
        url = request.getfixturevalue("emptied_postgres")
        made = [
            PostgresLimits(
                await stack.enter_async_context(opened_database(url)),
                renewal=0.5,
                steady=clock,
                clock=clock,
            )
            for _ in range(2)
        ]
        yield made[0], made[1] if "two" in request.param else made[0]


async def test_a_node_that_had_no_requests_for_long_learns_of_a_lockout(
    nodes: tuple[Limits, Limits], clock: HandClock
) -> None:
    one, two = nodes
    await two.check(GUESSER)
    for number in range(4):
        await guess(one, number)
    clock.now += 120
    with pytest.raises(LockedOut) as refused:
        await two.check(GUESSER)
    assert refused.value.retry_after == pytest.approx(180)


async def guess(limits: Limits, number: int, address: str = GUESSER) -> bool:
    return await limits.failed(address, SETTINGS, [b"guess %d" % number])


async def test_failures_on_all_nodes_lock_the_address_out_on_all(
    nodes: tuple[Limits, Limits], clock: HandClock
) -> None:
    one, two = nodes
    await two.check(GUESSER)
    locked = [await guess((one, two)[number % 2], number) for number in range(4)]
    assert locked == [False, False, False, True]

    clock.now += 0.5
    for limits in nodes:
        with pytest.raises(LockedOut) as refused:
            await limits.check(GUESSER)
        assert refused.value.retry_after == pytest.approx(299.5)
        await limits.check(OTHER)
    assert not await guess(two, 99)
    clock.now += 299.5
    for limits in nodes:
        await limits.check(GUESSER)
    assert not await guess(one, 100)


async def test_the_same_wrong_credential_counts_once(nodes: tuple[Limits, Limits]) -> None:
    for _ in range(5):
        assert not await guess(nodes[0], 1)
        assert not await guess(nodes[1], 1)
    for limits in nodes:
        await limits.check(GUESSER)


async def test_the_same_credential_counts_again_after_a_minute(
    nodes: tuple[Limits, Limits], clock: HandClock
) -> None:
    one, two = nodes
    assert not await guess(one, 1)
    clock.now += 60.0
    assert [await guess(two, number) for number in (1, 2, 3, 4)] == [False, False, False, True]


async def test_failures_that_are_too_old_do_not_count(
    nodes: tuple[Limits, Limits], clock: HandClock
) -> None:
    one, two = nodes
    for number in range(3):
        assert not await guess(one, number)
    clock.now += 60.0
    for number in range(3, 6):
        assert not await guess(two, number)
    assert await guess(one, 7)


async def test_a_right_credential_forgives_the_failures_of_all_nodes(
    nodes: tuple[Limits, Limits], clock: HandClock
) -> None:
    one, two = nodes
    for number in range(3):
        await guess(one, number)
    clock.now += 0.5
    await two.check(GUESSER)
    await two.succeeded(GUESSER)

    assert not any([await guess(one, number) for number in range(3, 6)])


async def test_one_client_owns_its_network(nodes: tuple[Limits, Limits], clock: HandClock) -> None:
    one, two = nodes
    for number in range(4):
        await guess(one, number, f"2001:db8::{number:x}")
    clock.now += 0.5
    with pytest.raises(LockedOut):
        await two.check("2001:db8::ffff")


async def test_of_failures_at_the_same_time_one_locks(nodes: tuple[Limits, Limits]) -> None:
    locked = await asyncio.gather(*(guess(nodes[number % 2], number) for number in range(20)))

    assert sum(locked) == 1
