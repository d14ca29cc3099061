"""A server that is to stop answers on until its clients have left, and closes what stays idle."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import h2.events
import httpx
import openai
import pytest
from h2.errors import ErrorCodes

from opensoul.app.lifecycle import Stopping
from tests.e2e.test_serving import until_refused
from tests.websocket.client import RawClient, connected
from tests.websocket.serving import Served, serving
from tests.websocket.test_http2_rules import GET, Peer

pytestmark = pytest.mark.both_loops

PATIENCE = 20.0
SHORT = Stopping(linger=0.5, grace=5.0)
AT_ONCE = Stopping(linger=0.0, grace=5.0)
REQUEST = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"


async def answer(tcp: RawClient) -> bytes:
    """The next response, whose body is one byte."""
    head = await tcp.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert await tcp.reader.readexactly(1) == b"2"
    return head.lower()


async def begins_to_leave(served: Served) -> None:
    served.stop.set()
    async with asyncio.timeout(PATIENCE):
        await served.leaving.wait()


async def ended(served: Served) -> None:
    async with asyncio.timeout(PATIENCE):
        await served.over.wait()


async def test_a_kept_connection_gets_one_more_answer_which_says_that_it_ends() -> None:
    async with serving(stopping=SHORT) as served, connected(served.port) as tcp:
        tcp.send(REQUEST)
        assert b"connection:" not in await answer(tcp)
        await begins_to_leave(served)
        tcp.send(REQUEST)
        assert b"connection: close" in await answer(tcp)
        await tcp.ended()
        await ended(served)


async def test_new_connections_are_answered_for_all_the_time_where_others_take_over() -> None:
    async with serving(stopping=SHORT) as served:
        await begins_to_leave(served)
        async with connected(served.port) as tcp:
            tcp.send(REQUEST)
            assert b"connection: close" in await answer(tcp)
            await tcp.ended()
        await ended(served)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", served.port)


async def test_a_response_that_could_not_say_so_any_more_is_followed_by_one_that_does() -> None:
    async with serving(stopping=SHORT) as served, connected(served.port) as tcp:
        async with connected(served.port) as idle:
            idle.send(REQUEST)
            await answer(idle)
            tcp.send(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await tcp.reader.readuntil(b"begun ")
            assert b"connection" not in head.lower()
            await begins_to_leave(served)
            served.read_on.set()
            await tcp.reader.readuntil(b"0\r\n\r\n")
            tcp.send(REQUEST)
            assert b"connection: close" in await answer(tcp)
        await ended(served)


async def test_a_request_that_has_begun_when_idle_connections_are_closed_is_answered() -> None:
    async with serving(stopping=AT_ONCE) as served, connected(served.port) as tcp:
        tcp.send(REQUEST[:20])
        await begins_to_leave(served)
        await asyncio.sleep(0)
        tcp.send(REQUEST[20:])
        assert b"connection: close" in await answer(tcp)
        await ended(served)


async def test_a_request_that_crosses_the_end_is_not_carried_out_and_gets_no_reset() -> None:
    async with serving(stopping=AT_ONCE) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as tcp:
            tcp.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(tcp, REQUEST)
            received = b""
            while not received.endswith(b"\r\n\r\n2"):
                received += await loop.sock_recv(tcp, 1_000)
            served.begun.clear()
            served.stop.set()
            assert await loop.sock_recv(tcp, 1) == b""
            tcp.send(REQUEST)
            assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert tcp.recv(1) == b""
        await ended(served)
        assert not served.begun.is_set()


async def test_clients_that_keep_connections_lose_no_request_to_a_stop() -> None:
    """One after the other, without a pause, on the same pool, until nothing listens any more."""
    async with serving(stopping=SHORT) as served:

        async def ask_on(client: aiohttp.ClientSession) -> int:
            count = 0
            while True:
                try:
                    async with client.post("/body", data=b"hi") as response:
                        assert (response.status, await response.text()) == (200, "2")
                except aiohttp.ClientConnectorError:
                    return count
                count += 1

        url = f"http://127.0.0.1:{served.port}"
        async with aiohttp.ClientSession(url) as client:
            asking = [asyncio.create_task(ask_on(client)) for _ in range(5)]
            await asyncio.wait_for(served.begun.wait(), PATIENCE)
            served.stop.set()
            async with asyncio.timeout(PATIENCE):
                counts = await asyncio.gather(*asking)
    assert min(counts) > 0


# HTTP/2


@asynccontextmanager
async def speaking_http2(stopping: Stopping) -> AsyncIterator[tuple[Served, Peer]]:
    async with serving(http2=True, stopping=SHORT) as served, connected(served.port) as tcp:
        yield served, Peer(tcp)


def asks(peer: Peer, path: str = "/nothing") -> int:
    stream = peer.h2.get_next_available_stream_id()
    headers = [(name, path if name == ":path" else value) for name, value in GET]
    peer.h2.send_headers(stream, headers, end_stream=True)
    return stream


async def goodbye(peer: Peer) -> tuple[int, int | None]:
    """The code of GOAWAY, and the number of the last request that was carried out."""
    async with asyncio.timeout(PATIENCE):
        event = await peer.until(h2.events.ConnectionTerminated)
    assert isinstance(event, h2.events.ConnectionTerminated)
    return int(event.error_code or 0), event.last_stream_id


async def test_an_idle_connection_of_http2_is_told_at_once() -> None:
    async with speaking_http2(SHORT) as (served, peer):
        last = asks(peer)
        await peer.until(h2.events.StreamEnded, last)
        served.stop.set()
        assert await goodbye(peer) == (ErrorCodes.NO_ERROR, last)
        await ended(served)


async def test_a_connection_of_http2_ends_after_the_requests_that_are_in_work() -> None:
    async with speaking_http2(SHORT) as (served, peer):
        held = asks(peer, "/held")
        await peer.until(h2.events.DataReceived, held)
        async with connected(served.port) as idle:
            idle.send(REQUEST)
            await answer(idle)
            await begins_to_leave(served)
            # A client that has not heard of it goes on.
            another = asks(peer)
            assert await peer.status(another) == "404"
            served.read_on.set()
            await peer.until(h2.events.StreamEnded, held)
            assert await goodbye(peer) == (ErrorCodes.NO_ERROR, another)
        await ended(served)


async def test_the_first_request_of_a_new_connection_of_http2_is_answered() -> None:
    async with serving(http2=True, stopping=SHORT) as served:
        await begins_to_leave(served)
        async with connected(served.port) as tcp:
            peer = Peer(tcp)
            await peer.until(h2.events.SettingsAcknowledged)
            stream = asks(peer)
            assert await peer.status(stream) == "404"
            assert await goodbye(peer) == (ErrorCodes.NO_ERROR, stream)
        await ended(served)


async def test_requests_after_the_end_of_listening_may_be_sent_again() -> None:
    """The ones in work are answered."""
    stopping = Stopping(linger=0.1, grace=5.0)
    async with speaking_http2(stopping) as (served, peer):
        held = asks(peer, "/held")
        await peer.until(h2.events.DataReceived, held)
        await begins_to_leave(served)
        await until_refused(served.port)
        refused = asks(peer)
        reset = await peer.until(h2.events.StreamReset, refused)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == ErrorCodes.REFUSED_STREAM
        served.read_on.set()
        await peer.until(h2.events.StreamEnded, held)
        await ended(served)


async def test_an_idle_connection_of_http2_ends_with_goodbye_after_the_keep_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["opensoul.app.server.host"], "_KEEP_ALIVE", 0.05)
    async with speaking_http2(AT_ONCE) as (_, peer):
        last = asks(peer)
        await peer.until(h2.events.StreamEnded, last)
        assert await goodbye(peer) == (ErrorCodes.NO_ERROR, last)


async def test_httpx_loses_no_request_over_http2_to_a_stop() -> None:
    """It reads GOAWAY only when it has sent its next request, and sends that again."""
    async with serving(http2=True, stopping=SHORT) as served:
        url = f"http://127.0.0.1:{served.port}/nothing"
        async with httpx.AsyncClient(http1=False, http2=True) as client:
            first = await client.get(url)
            await begins_to_leave(served)
            second = await client.get(url)
        assert (first.http_version, first.status_code) == ("HTTP/2", 404)
        assert second.status_code == 404


# The time that idle connections are kept


def test_idle_connections_are_kept_longer_than_clients_and_proxies_keep_theirs() -> None:
    """Or else each request after the server's end of the time would race with that."""
    kept = sys.modules["opensoul.app.server.host"].__dict__["_KEEP_ALIVE"]
    of_undici, of_aiohttp, of_nginx_and_load_balancers = 4.0, 15.0, 60.0
    of_httpx = httpx.Limits().keepalive_expiry
    of_openai = openai.DEFAULT_CONNECTION_LIMITS.keepalive_expiry
    assert of_httpx is not None
    assert of_openai is not None
    theirs = (of_httpx, of_openai, of_undici, of_aiohttp, of_nginx_and_load_balancers)
    assert kept >= max(theirs) + 10
