"""When a node renews its copy of what the nodes share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from opensoul.domain.errors import StoreFailed
from opensoul.domain.ports import OnMessage
from opensoul.domain.services.shared_copy import SharedCopy

PATIENCE = 20.0


@dataclass
class FakeBus:
    """The bus of one node, whose messages a test sends and receives."""

    shared: bool = True
    node_id: str = "one"
    published: list[tuple[str, str]] = field(default_factory=list)
    listeners: dict[str, OnMessage] = field(default_factory=dict)
    gaps: list[Callable[[], None]] = field(default_factory=list)

    def publish(self, topic: str, payload: str = "", *, is_urgent: bool = True) -> None:
        self.published.append((topic, payload))

    def subscribe(self, topic: str, listener: OnMessage) -> Callable[[], None]:
        self.listeners[topic] = listener

        def end() -> None:
            del self.listeners[topic]

        return end

    async def listening(self, *topics: str) -> None:
        """Every message arrives."""

    def on_gap(self, listener: Callable[[], None]) -> Callable[[], None]:
        self.gaps.append(listener)
        return lambda: self.gaps.remove(listener)


class Records:
    """Are renewed when the test lets them be."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[int] = asyncio.Queue()
        self.may_end = asyncio.Event()
        self.failing = False
        self.renewals = 0

    async def renew(self) -> None:
        self.renewals += 1
        self.begun.put_nowait(self.renewals)
        await self.may_end.wait()
        if self.failing:
            raise StoreFailed("The database does not answer.")

    async def renewed(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE):
            assert await self.begun.get() == number


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def copy(bus: FakeBus, records: Records) -> SharedCopy:
    copy = SharedCopy(bus, "keys", records.renew)
    copy.open()
    return copy


async def test_a_message_and_a_gap_renew_the_copy(
    bus: FakeBus, records: Records, copy: SharedCopy
) -> None:
    records.may_end.set()
    bus.listeners["keys"]("")
    await records.renewed(1)
    bus.gaps[0]()
    await records.renewed(2)
    await copy.close()
    copy.changed()
    assert bus.published == [("keys", "")]


async def test_messages_during_a_renewal_cause_one_more(
    bus: FakeBus, records: Records, copy: SharedCopy
) -> None:
    bus.listeners["keys"]("")
    await records.renewed(1)
    for _ in range(5):
        bus.listeners["keys"]("")
    records.may_end.set()
    await records.renewed(2)
    await copy.close()
    assert records.renewals == 2


async def test_a_renewal_that_fails_is_logged_and_the_next_message_renews(
    bus: FakeBus, records: Records, copy: SharedCopy, caplog: pytest.LogCaptureFixture
) -> None:
    records.failing = True
    bus.listeners["keys"]("")
    await records.renewed(1)
    with caplog.at_level(logging.WARNING):
        bus.listeners["keys"]("")
        records.may_end.set()
        await copy.close()
    assert [record.getMessage() for record in caplog.records] == [
        "changes of other nodes were not read"
    ]
    records.failing = False
    copy.open()
    bus.listeners["keys"]("")
    await records.renewed(2)
    await copy.close()


async def test_those_who_need_a_renewal_at_the_same_time_share_one(
    records: Records, copy: SharedCopy
) -> None:
    first = asyncio.create_task(copy.renewed())
    await records.renewed(1)
    # It may have read before these have called: they get another one.
    others = [asyncio.create_task(copy.renewed()) for _ in range(10)]
    records.failing = True
    records.may_end.set()
    failures = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreFailed] * 11
    assert records.renewals == 2


async def test_a_renewal_goes_on_without_those_who_left(records: Records, copy: SharedCopy) -> None:
    left = asyncio.create_task(copy.renewed())
    await records.renewed(1)
    left.cancel()
    records.failing = True
    staying = asyncio.create_task(copy.renewed())
    records.may_end.set()
    with pytest.raises(StoreFailed):
        await staying
    with pytest.raises(asyncio.CancelledError):
        await left
    assert records.renewals == 2


async def test_a_closed_copy_listens_no_more(
    bus: FakeBus, records: Records, copy: SharedCopy
) -> None:
    await copy.close()
    assert (bus.listeners, bus.gaps) == ({}, [])


@pytest.mark.parametrize("bus", [None, FakeBus(shared=False)])
def test_without_other_nodes_a_copy_is_not_shared(bus: FakeBus | None, records: Records) -> None:
    assert not SharedCopy(bus, "keys", records.renew).shared
    assert SharedCopy(FakeBus(), "keys", records.renew).shared
