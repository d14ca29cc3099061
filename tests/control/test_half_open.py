"""Connections that never introduce themselves do not keep out those that do."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, ExitStack

import aiohttp
import pytest

from opensoul.adapters.transports.control import transport
from opensoul.adapters.transports.control.connection.half_open import (
    MAX_HALF_OPEN,
    MAX_PER_ADDRESS,
    HalfOpen,
    HalfOpenConnections,
)
from tests.app.serving import SECRET, Served
from tests.control.client import PATIENCE, Peer, Refused, connect_params, knocking
from tests.websocket.client import TEXT, RawClient, frame, opened

pytestmark = pytest.mark.both_loops

BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def stack() -> ExitStack:
    """Left open: what is in it is never left."""
    return ExitStack()


def entered(
    stack: ExitStack, budget: HalfOpenConnections, owner: str, count: int
) -> list[HalfOpen]:
    return [stack.enter_context(budget.joined(owner)) for _ in range(count)]


def replaced(connections: list[HalfOpen]) -> list[int]:
    return [place for place, one in enumerate(connections) if one.is_replaced]


def test_an_address_with_its_share_replaces_its_own_oldest(stack: ExitStack) -> None:
    budget = HalfOpenConnections()
    flood = entered(stack, budget, "203.0.113.1", MAX_PER_ADDRESS)
    other = entered(stack, budget, "203.0.113.2", 1)
    flood += entered(stack, budget, "203.0.113.1", 2)
    assert (replaced(flood), replaced(other)) == ([0, 1], [])
    assert len(budget) == MAX_PER_ADDRESS + 1


def test_where_the_world_has_its_share_the_address_with_the_most_gives_way(
    stack: ExitStack,
) -> None:
    budget = HalfOpenConnections()
    quiet = entered(stack, budget, "198.51.100.1", 1)
    floods = [entered(stack, budget, f"203.0.113.{n}", MAX_PER_ADDRESS) for n in range(8)]
    latest = entered(stack, budget, "198.51.100.2", 1)
    assert len(budget) == MAX_HALF_OPEN
    assert (replaced(quiet), replaced(latest)) == ([], [])
    assert sum(len(replaced(flood)) for flood in floods) == 2


def test_who_has_introduced_itself_is_not_replaced(stack: ExitStack) -> None:
    budget = HalfOpenConnections()
    first, *others = entered(stack, budget, "203.0.113.1", MAX_PER_ADDRESS)
    budget.release(first)
    others += entered(stack, budget, "203.0.113.1", 2)
    assert (first.is_replaced, replaced(others)) == (False, [0])
    stack.close()
    assert len(budget) == 0


async def test_clients_get_in_while_one_address_reopens_its_half_open_connections(
    served: Served,
) -> None:
    let_in = asyncio.Event()
    begun = asyncio.Barrier(MAX_PER_ADDRESS + 8 + 1)

    async def reopen() -> None:
        is_first = True
        while not let_in.is_set():
            async with served.client.ws_connect("/") as socket:
                await socket.receive()  # the challenge
                if is_first:
                    await begun.wait()
                is_first = False
                await asyncio.wait(
                    {asyncio.ensure_future(socket.receive()), asyncio.ensure_future(let_in.wait())},
                    return_when=asyncio.FIRST_COMPLETED,
                )

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as flood:
        for _ in range(MAX_PER_ADDRESS + 8):
            flood.create_task(reopen())
        await begun.wait()
        for _ in range(10):
            async with knocking(served.client) as peer:
                await peer.event("connect.challenge")
                assert (await peer.call("connect", connect_params(SECRET)))["type"] == "hello-ok"
        let_in.set()


async def test_a_stranger_has_less_time_to_speak_than_who_brings_the_secret(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.05)
    for headers in ({}, {"Authorization": "Basic dXNlcjpwYXNz"}, {"Authorization": "Bearer wrong"}):
        async with knocking(served.client, headers=headers) as stranger:
            assert await stranger.closed() == (1008, "handshake timeout")
    async with knocking(served.client, headers=BEARER) as known:
        async with knocking(served.client) as stranger:
            assert await stranger.closed() == (1008, "handshake timeout")
        assert await introduced(known)
    monkeypatch.setattr(transport, "HANDSHAKE_SECONDS", 0.05)
    async with knocking(served.client, headers=BEARER) as known:
        assert await known.closed() == (1008, "handshake timeout")


async def test_the_time_to_speak_is_over_also_while_bytes_arrive(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.05)
    port = int(served.url.rpartition(":")[2])
    async with asyncio.timeout(PATIENCE), opened(port) as client:
        # One frame of a message that is never complete, as fast as it is taken.
        whole = frame(TEXT, b"x" * 60_000)
        drip = asyncio.create_task(_drip(client, whole[:-1]))
        assert json.loads(await client.text())["event"] == "connect.challenge"
        assert await client.closing() == (1008, "handshake timeout")
        drip.cancel()


async def _drip(client: RawClient, data: bytes) -> None:
    for byte in data:
        client.send(bytes([byte]))
        await asyncio.sleep(0)


@pytest.mark.parametrize("headers", [BEARER, {"x-api-key": SECRET}])
async def test_who_brings_the_secret_is_not_replaced_and_takes_no_place(
    served: Served, headers: dict[str, str]
) -> None:
    async with AsyncExitStack() as stack:
        known = [
            await stack.enter_async_context(knocking(served.client, headers=headers))
            for _ in range(2)
        ]
        strangers = [
            await stack.enter_async_context(knocking(served.client)) for _ in range(MAX_PER_ADDRESS)
        ]
        for peer in known:
            assert await introduced(peer)
        for peer in strangers:
            assert await introduced(peer)


async def test_the_header_is_no_substitute_for_the_secret_in_connect(served: Served) -> None:
    async with knocking(served.client, headers=BEARER) as peer:
        await peer.event("connect.challenge")
        with pytest.raises(Refused, match="device identity required"):
            await peer.call("connect", connect_params(None))


async def test_a_wrong_header_counts_towards_the_lockout(served: Served) -> None:
    attempts = served.container.settings()().auth.lockout.max_attempts
    for number in range(attempts - 1):
        headers = {"Authorization": f"Bearer wrong-{number}"}
        # With the same secret in `connect` it is one attempt.
        async with knocking(served.client, headers=headers) as peer:
            await peer.event("connect.challenge")
            with pytest.raises(Refused, match="mismatch"):
                await peer.call("connect", connect_params(f"wrong-{number}"))
    async with knocking(served.client, headers={"x-api-key": "the last one"}) as peer:
        await peer.event("connect.challenge")
        with pytest.raises(Refused, match="too many failed authentication attempts"):
            await peer.call("connect", connect_params(SECRET))
    async with knocking(served.client, headers=BEARER) as peer:
        with pytest.raises(Refused, match="too many failed authentication attempts"):
            await peer.call("connect", connect_params(SECRET))


async def test_a_full_gateway_refuses_also_who_was_let_in_meanwhile(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with knocking(served.client) as peer:
        await peer.event("connect.challenge")
        monkeypatch.setattr(transport, "MAX_CONNECTIONS", 0)
        with pytest.raises(Refused, match="maximum connections reached") as caught:
            await peer.call("connect", connect_params(SECRET))
        assert caught.value.error["retryable"] is True
        assert await peer.closed() == (1013, "maximum connections reached")
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        await served.client.ws_connect("/")


async def introduced(peer: Peer) -> bool:
    hello = await peer.call("connect", connect_params(SECRET))
    return bool(hello["type"] == "hello-ok")
