"""Direct calls of tools with an idempotency key, at several Gateways over one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.app.nodes import serving_nodes
from tests.app.quiet_nodes import never
from tests.app.serving import SECRET, Served, config
from tests.approvals.office import installed
from tests.control.client import Peer, Refused, connected
from tests.direct_calls.workshop import Tools
from tests.persistence.postgres_stores import opened_database

ONCE = {"name": "say", "args": {"text": "x"}, "idempotencyKey": "k"}
HANG = {"name": "hang", "idempotencyKey": "k"}


@asynccontextmanager
async def workshops(home: Path, url: str, tools: Tools) -> AsyncIterator[list[Served]]:
    whole = config(tools={"allow": ["*"]})
    whole["gateway"]["tools"] = {"invoke": {"allow": ["*"]}}

    def parts() -> dict[str, Any]:
        return {"find_plugins": installed(courier=tools), **never()}

    async with serving_nodes(home, url, whole, parts=parts) as nodes:
        yield nodes


@pytest.fixture
def tools() -> Tools:
    return Tools()


@pytest.fixture
async def peers(emptied_postgres: str, tmp_path: Path, tools: Tools) -> AsyncIterator[list[Peer]]:
    """A client of each node."""
    async with (
        workshops(tmp_path, emptied_postgres, tools) as (one, other),
        connected(one.client, SECRET) as first,
        connected(other.client, SECRET) as second,
    ):
        yield [first, second]


async def test_a_call_repeated_at_the_other_node_gets_the_result_of_the_first(
    peers: list[Peer], tools: Tools
) -> None:
    first = await peers[0].call("tools.invoke", ONCE)
    assert first["ok"]
    for peer in peers:
        assert await peer.call("tools.invoke", ONCE) == first
        with pytest.raises(Refused, match="stands for another call"):
            await peer.call("tools.invoke", ONCE | {"args": {"text": "y"}})
    assert len(tools.calls) == 1


async def test_equal_calls_at_the_same_time_are_made_once(peers: list[Peer], tools: Tools) -> None:
    results = await asyncio.gather(*(peers[n % 2].call("tools.invoke", ONCE) for n in range(10)))
    assert all(result == results[0] for result in results)
    assert len(tools.calls) == 1


async def test_who_waits_at_the_other_node_learns_that_the_call_was_stopped(
    emptied_postgres: str, tmp_path: Path, tools: Tools
) -> None:
    async with (
        workshops(tmp_path, emptied_postgres, tools) as (one, other),
        connected(other.client, SECRET) as waiting,
    ):
        async with connected(one.client, SECRET) as peer:
            peer.send("tools.invoke", HANG)
            await tools.hanging.wait()
            repeated = waiting.send("tools.invoke", HANG)
        answers = [await waiting.answer(repeated), await waiting.call("tools.invoke", HANG)]
    assert len(tools.calls) == 1
    for answer in answers:
        assert "it is not known what took effect" in answer["error"]["message"]


async def test_a_call_of_a_node_that_has_died_is_not_made_again(
    emptied_postgres: str, tmp_path: Path, tools: Tools
) -> None:
    async with (
        workshops(tmp_path, emptied_postgres, tools) as (one, other),
        opened_database(emptied_postgres) as database,
        connected(other.client, SECRET) as waiting,
        connected(one.client, SECRET) as peer,
    ):
        peer.send("tools.invoke", HANG)
        await tools.hanging.wait()
        await database.execute("UPDATE direct_calls SET until = extract(epoch FROM now()) - 1")
        answer = await waiting.call("tools.invoke", HANG)
        assert "it is not known what took effect" in answer["error"]["message"]
        assert len(tools.calls) == 1
        # And after some minutes the key is forgotten.
        await database.execute("UPDATE direct_calls SET until = until - 301")
        again = waiting.send("tools.invoke", HANG | {"name": "say"})
        assert (await waiting.answer(again))["ok"]


async def test_a_refused_call_does_not_use_up_its_key_at_the_other_node(
    peers: list[Peer], tools: Tools
) -> None:
    unknown = {"name": "nothing", "idempotencyKey": "k"}
    for peer in peers:
        assert not (await peer.call("tools.invoke", unknown))["ok"]
    assert (await peers[1].call("tools.invoke", ONCE))["ok"]
