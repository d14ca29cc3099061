"""Notifications of the database that are really lost: the connections that listen are broken."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence

import psycopg

from opensoul.adapters.persistence.postgres.runs import Bells, PostgresRunEvents
from tests.app.serving import Served

_LISTENING = """
    FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE %s AND pid <> pg_backend_pid()"""
_PATIENCE = 30.0


async def unheard(
    url: str, nodes: Sequence[Served], change: Callable[[int], Awaitable[object]]
) -> int:
    """Have `change` done, and notified, while no process listens. It is repeated, with the next
    number, where a process has listened again before; the last number is returned."""
    async with (
        asyncio.timeout(_PATIENCE),
        await psycopg.AsyncConnection.connect(url, autocommit=True) as server,
    ):
        cursor = await server.execute("SELECT current_schema()")
        (schema,) = await cursor.fetchone() or ("",)
        listening = (f"%os_{zlib.crc32(schema.encode()):08x}_%",)
        number = 0
        while True:
            while await _count(server, listening) < len(nodes):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
            # Returns when the processes of the server have ended, so nothing reaches them.
            await server.execute(f"SELECT pg_terminate_backend(pid, 10000) {_LISTENING}", listening)
            number += 1
            await change(number)
            for node in nodes:
                await bells_of(node).rung()
            if not await _count(server, listening):
                return number


async def _count(server: psycopg.AsyncConnection[tuple[object, ...]], listening: tuple[str]) -> int:
    cursor = await server.execute(f"SELECT count(*)::integer {_LISTENING}", listening)
    row = await cursor.fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


def bells_of(node: Served) -> Bells:
    events = node.container.run_events()
    assert isinstance(events, PostgresRunEvents)
    return events.bells
