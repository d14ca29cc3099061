"""Tasks of a process go on after a fault, and leave nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opensoul.adapters.persistence.postgres import PostgresNodes
from opensoul.adapters.persistence.postgres.runs import PostgresRunEvents
from opensoul.domain.models.calls import TextDelta
from opensoul.domain.ports import NodeInfo
from opensoul.domain.runs.events import Started
from tests.fakes.domain import run

from .postgres_runs import node
from .postgres_stores import few_connections

PATIENCE = 20.0
"""Seconds; after that it hangs."""


class Fault:
    """Raises with its first call; `survived` is set by the next one."""

    def __init__(self) -> None:
        self.calls = 0
        self.survived = asyncio.Event()

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("a fault")
        self.survived.set()


async def test_notifications_are_sent_after_a_fault(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fault, heard = Fault(), asyncio.Event()
    async with node(postgres_url) as one:
        bells = one.events.bells
        await bells.listened("tests", lambda _: heard.set())
        execute = one.database.execute

        async def faulty(*values: Any, **options: Any) -> int:
            fault()
            return await execute(*values, **options)

        monkeypatch.setattr(one.database, "execute", faulty)
        bells.ring("tests")
        await bells.rung()
        assert not heard.is_set()
        bells.ring("tests")
        await asyncio.wait_for(heard.wait(), PATIENCE)
    assert "notifications could not be sent" in caplog.text


async def test_lost_notifications_are_looked_for_after_a_fault(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Fault()

    async def look() -> None:
        fault()

    async with node(postgres_url, look_every=0.01) as one:
        one.events.on_look.append(look)
        await asyncio.wait_for(fault.survived.wait(), PATIENCE)
    assert "looking into the database failed unexpectedly" in caplog.text
    assert "RuntimeError: a fault" in caplog.text


async def test_heartbeats_go_on_after_a_fault(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Fault()
    is_joining = True

    def describe() -> NodeInfo:
        if not is_joining:
            fault()
        return NodeInfo("b", "b", "all", "1", "here", 1)

    async with node(postgres_url) as one:
        nodes = PostgresNodes(one.database, "b", lease=0.03)
        await nodes.join(describe)
        is_joining = False
        await asyncio.wait_for(fault.survived.wait(), PATIENCE)
        await nodes.leave()
    assert "a heartbeat failed unexpectedly" in caplog.text
    assert "RuntimeError: a fault" in caplog.text


async def test_events_are_stored_after_a_fault(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Fault()
    async with node(postgres_url) as one:
        rows: Any = one.database.rows

        async def faulty(query: str, *values: Any, **options: Any) -> Any:
            if "run_append" in query:
                fault()
            return await rows(query, *values, **options)

        one.database.rows = faulty  # type: ignore[method-assign]
        claim = await one.claimed(run())
        kept = one.events.follow_kept("run-1")
        await one.events.append(claim, [Started(0, 0), TextDelta("a")])
        batch = await asyncio.wait_for(anext(kept), PATIENCE)
        assert (batch.last, one.events.trouble()) == (2, None)
    assert "storing events of runs failed unexpectedly" in caplog.text
    assert "RuntimeError: a fault" in caplog.text


async def test_a_start_that_is_cancelled_leaves_no_connection(postgres_url: str) -> None:
    connected: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not connected.done():
            connected.set_result(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    events = PostgresRunEvents(
        few_connections(postgres_url),
        clock=lambda: 0.0,
        listen_url=f"postgresql://nobody@127.0.0.1:{port}/nothing",
    )
    starting = asyncio.create_task(events.start())
    writer = await asyncio.wait_for(connected, PATIENCE)
    starting.cancel()
    writer.close()
    with pytest.raises(asyncio.CancelledError):
        await starting
    server.close()

    assert "listen to the database" not in {task.get_name() for task in asyncio.all_tasks()}
