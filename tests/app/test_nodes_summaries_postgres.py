"""Summaries of sessions with several Gateways over one database: one is written at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from opensoul.domain.sessions import SessionKey
from tests.app.nodes import serving_nodes
from tests.app.quiet_nodes import never
from tests.app.serving import SECRET, Served, config
from tests.control.client import Peer, connected
from tests.fakes.behaviours import Exchange, answer
from tests.fakes.provider import FakeProvider

WRITING = "A summary of the session is being written already."
TALK = {"key": "main"}
LONG = "x" * 2_000


class Author:
    """A provider whose next summary waits until it is `released`."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.released = asyncio.Event()

    async def behave(self, exchange: Exchange) -> None:
        self.asked.set()
        await self.released.wait()
        await answer("They talked.")(exchange)


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("I see.")) as provider:
        yield provider


@asynccontextmanager
async def offices(
    home: Path, url: str, provider: FakeProvider
) -> AsyncIterator[tuple[list[Served], list[Peer]]]:
    """Two nodes, a client of each, and a session with two long turns."""
    whole = config(
        provider.base_url,
        agents={
            "defaults": {
                "model": {"primary": "fake/m"},
                "compaction": {"keepRecentTokens": 100},
            }
        },
    )
    async with (
        serving_nodes(home, url, whole, parts=never) as nodes,
        AsyncExitStack() as stack,
    ):
        peers = [await stack.enter_async_context(connected(node.client, SECRET)) for node in nodes]
        for number in (1, 2):
            sent = await peers[0].call(
                "chat.send",
                {"sessionKey": "main", "message": LONG, "idempotencyKey": f"turn {number}"},
            )
            await peers[0].call("agent.wait", {"runId": sent["runId"]})
        yield nodes, peers


async def compactions(node: Served) -> int:
    info = await node.container.catalog().find(SessionKey("main", "main"))
    assert info is not None
    return info.compactions


async def test_two_nodes_do_not_have_the_same_summary_written(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    async with offices(tmp_path, emptied_postgres, provider) as (nodes, (one, other)):
        author = Author()
        asked_before = len(provider.requests)
        provider.will(author.behave)
        first = asyncio.create_task(one.call("sessions.compact", TALK))
        await author.asked.wait()

        refused = await other.call("sessions.compact", TALK)
        assert (refused["compacted"], refused["reason"]) == (False, WRITING)
        assert len(provider.requests) == asked_before + 1
        author.released.set()
        assert (await first)["compacted"]
        assert await compactions(nodes[1]) == 1

        # The lock is open again, and the other node reads what the first has stored.
        again = await other.call("sessions.compact", TALK)
        assert (again["compacted"], again["reason"]) == (False, "There is too little to compact.")
        assert len(provider.requests) == asked_before + 1


async def test_a_request_for_a_summary_that_is_cancelled_leaves_no_lock(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider
) -> None:
    async with offices(tmp_path, emptied_postgres, provider) as (nodes, (_, other)):
        author = Author()
        provider.will(author.behave)
        async with connected(nodes[0].client, SECRET) as leaving:
            leaving.send("sessions.compact", TALK)
            await author.asked.wait()
        provider.will(answer("They talked."))
        while (answered := await other.call("sessions.compact", TALK)).get("reason") == WRITING:
            pass
        assert answered["compacted"]


@pytest.mark.parametrize(
    "lost",
    [
        "UPDATE nodes SET heartbeat_at = heartbeat_at - 3600 WHERE id = %s",
        "DELETE FROM nodes WHERE id = %s",
        "UPDATE summary_locks SET until = server_now() - 1 WHERE node = %s",
    ],
    ids=["silent", "gone", "too long"],
)
async def test_the_lock_of_a_dead_node_keeps_nobody_from_a_summary(
    emptied_postgres: str, tmp_path: Path, provider: FakeProvider, lost: Any
) -> None:
    async with offices(tmp_path, emptied_postgres, provider) as (nodes, (one, other)):
        author = Author()
        provider.will(author.behave)
        first = asyncio.create_task(one.call("sessions.compact", TALK))
        await author.asked.wait()
        async with await psycopg.AsyncConnection.connect(
            emptied_postgres, autocommit=True
        ) as server:
            await server.execute(lost, (nodes[0].container.bus().node_id,))

        provider.will(answer("They talked."))
        assert (await other.call("sessions.compact", TALK))["compacted"]

        # It was not dead after all: its summary is of what has one already.
        author.released.set()
        late = await first
        assert (late["compacted"], late["reason"]) == (False, "The session was changed meanwhile.")
        assert await compactions(nodes[1]) == 1
