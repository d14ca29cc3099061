"""The book of devices in PostgreSQL: one process does not undo what another one has saved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from opensoul.adapters.persistence.postgres import Database, PostgresDevices
from opensoul.adapters.system.signatures import verify_signature
from opensoul.domain.access import Scope
from opensoul.domain.access.devices.records import DeviceState, Role
from opensoul.domain.errors import StoreFailed
from opensoul.domain.services import Devices
from tests.fakes.devices import ADMIN, Device, accepts
from tests.system.test_device_file import STATE

from .postgres_stores import opened_database
from .run_logs import HandClock


@pytest.fixture
async def databases(emptied_postgres: str) -> AsyncIterator[list[Database]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened_database(emptied_postgres)) for _ in range(2)]


async def test_what_was_saved_is_loaded(databases: list[Database]) -> None:
    book = PostgresDevices(databases[0])
    assert await book.load() == DeviceState()
    assert await book.save(STATE)
    assert await book.newer() is None

    again = PostgresDevices(databases[1])
    assert await again.load() == STATE
    assert await again.save(DeviceState())
    assert await book.newer() == DeviceState()


async def test_of_two_processes_that_save_at_the_same_time_one_does(
    databases: list[Database],
) -> None:
    books = [PostgresDevices(database) for database in databases]
    for state in (STATE, DeviceState()):
        for book in books:
            await book.load()
        saved = await asyncio.gather(*(book.save(state) for book in books))
        assert sorted(saved) == [False, True]
        assert await books[saved.index(False)].newer() == state


async def test_a_book_that_was_deleted_is_not_written_by_one_who_knew_it(
    databases: list[Database],
) -> None:
    book = PostgresDevices(databases[0])
    await book.save(STATE)
    await databases[1].execute("DELETE FROM device_book")
    assert not await book.save(STATE)


async def test_a_damaged_book_is_named_and_stays(databases: list[Database]) -> None:
    await databases[0].execute("INSERT INTO device_book VALUES (true, 1, '{\"version\": 2}')")
    with pytest.raises(StoreFailed, match="cannot be read: version"):
        await PostgresDevices(databases[0]).load()
    assert await databases[0].rows("SELECT version FROM device_book") == [(1,)]


async def test_devices_of_all_nodes_are_kept_and_a_revocation_counts_on_all(
    databases: list[Database],
) -> None:
    clock = HandClock()
    nodes = [
        Devices(book=PostgresDevices(database), clock=clock, verify=verify_signature)
        for database in databases
    ]
    for node in nodes:
        await node.open()
    phones = [Device() for _ in range(6)]
    entries = await asyncio.gather(
        *(
            nodes[n % 2].enter(phone.visitor(Scope.READ), token=None, silent=True)
            for n, phone in enumerate(phones)
        )
    )
    tokens = [entry.minted.token if entry.minted else "" for entry in entries]

    for node in nodes:
        await node.expire()
        assert [
            await accepts(node, phone.id, token)
            for phone, token in zip(phones, tokens, strict=True)
        ] == [True] * 6
    await nodes[0].revoke(ADMIN, phones[3].id, Role.OPERATOR)
    await nodes[1].revoke(ADMIN, phones[2].id, Role.OPERATOR)
    await nodes[0].expire()
    for node in nodes:
        assert [
            await accepts(node, phone.id, token)
            for phone, token in zip(phones, tokens, strict=True)
        ] == [True, True, False, False, True, True]
