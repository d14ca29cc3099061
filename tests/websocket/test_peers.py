"""How many connections one address may have, and who is told what beyond that."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from ipaddress import ip_network

import pytest

from opensoul.app.server.hypercorn import PeerConnections
from opensoul.domain.access.addresses import stands_for_many
from opensoul.domain.bounded_logs import KIND
from tests.fakes.domain import settings
from tests.websocket.client import connected, opened
from tests.websocket.serving import serving

LIMIT = 3
GET = b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class WatchedPeers(PeerConnections):
    """Every address may have three connections; shows when one has ended."""

    def __init__(self) -> None:
        super().__init__(lambda: LIMIT, lambda peer: False)
        self.left = asyncio.Event()

    def leave(self, peer: str) -> None:
        super().leave(peer)
        self.left.set()


async def test_an_address_gets_no_more_connections_than_it_may_have(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peers = WatchedPeers()
    async with serving(peers=peers) as served, AsyncExitStack() as stack:
        # Idle, with half a request, and as a WebSocket: all are connections.
        await stack.enter_async_context(connected(served.port))
        half = await stack.enter_async_context(connected(served.port))
        half.send(GET[:10])
        socket = await stack.enter_async_context(opened(served.port))

        for _ in range(2):
            async with connected(served.port) as refused:
                answer = await refused.reader.read()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"gateway.maxConnectionsPerAddress" in answer

        socket.writer.transport.abort()
        await peers.left.wait()
        async with connected(served.port) as taken:
            taken.send(GET)
            assert (await taken.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 404 ")
    assert all(peers.enter("127.0.0.1") for _ in range(LIMIT)), "each has ended"
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.message for r in warnings] == 2 * [
        "connections are refused: the address has gateway.maxConnectionsPerAddress of them "
        "already; where it is a reverse proxy, list it in gateway.trustedProxies"
    ]
    assert {getattr(r, KIND) for r in warnings} == {"connections refused"}


async def test_this_machine_may_have_any_number() -> None:
    peers = PeerConnections(lambda: 1, lambda peer: stands_for_many(peer, ()))
    async with serving(peers=peers) as served, AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(opened(served.port))


@pytest.mark.parametrize(
    ("peer", "many"),
    [
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),
        ("::1", True),
        ("10.0.0.7", True),
        ("10.1.0.7", False),
        ("203.0.113.7", False),
        ("2001:db8::7", False),
        ("", True),
    ],
)
def test_loopback_and_trusted_proxies_stand_for_many_clients(peer: str, many: bool) -> None:
    assert stands_for_many(peer, (ip_network("10.0.0.0/16"),)) is many


def test_the_addresses_of_one_ipv6_network_count_as_one() -> None:
    peers = PeerConnections(lambda: 1, lambda peer: False)

    assert peers.enter("2001:db8:1:2::1")
    assert not peers.enter("2001:db8:1:2::2")
    assert peers.enter("2001:db8:1:3::1")
    peers.leave("2001:db8:1:2::1")
    assert peers.enter("2001:db8:1:2::2")


def test_the_limit_and_the_proxies_are_those_in_force() -> None:
    in_force = settings(max_connections_per_address=1)
    peers = PeerConnections.by(lambda: in_force)
    assert peers.enter("203.0.113.7")
    assert not peers.enter("203.0.113.7")

    in_force = settings(max_connections_per_address=2)
    assert peers.enter("203.0.113.7")
    assert not peers.enter("203.0.113.7")

    in_force = settings(trusted_proxies=(ip_network("203.0.113.0/24"),))
    assert peers.enter("203.0.113.7")
    assert peers.enter("127.0.0.1")
