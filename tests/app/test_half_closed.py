"""A client that closes its sending half gets its answer; one that has left stops its run."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.app.serving import SECRET, Served
from tests.fakes.behaviours import answer, hang, hang_after
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.both_loops

AT_ONCE = 1.0


class Wire:
    """A connection of which every byte is the test's."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.socket = socket.socket()

    async def __aenter__(self) -> Wire:
        self.socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self.socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, request: bytes) -> None:
        assert self.socket.send(request) == len(request)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    async def until(self, text: bytes) -> bytes:
        """What arrives, until it has `text`."""
        received = b""
        async with asyncio.timeout(10):
            while text not in received:
                piece = await asyncio.get_running_loop().sock_recv(self.socket, 65_536)
                assert piece, received
                received += piece
        return received

    async def rest(self) -> bytes:
        """What arrives until the connection ends."""
        received = b""
        async with asyncio.timeout(10):
            while piece := await asyncio.get_running_loop().sock_recv(self.socket, 65_536):
                received += piece
        return received


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[Wire]:
    async with Wire(int(served.url.rpartition(":")[2])) as wire:
        yield wire


def chat(*, stream: bool = False, version: str = "HTTP/1.1", body: bytes | None = None) -> bytes:
    content = {"messages": [{"role": "user", "content": "hello"}], "stream": stream}
    body = json.dumps(content).encode() if body is None else body
    lines = [
        f"POST /v1/chat/completions {version}",
        "Host: localhost",
        f"Authorization: Bearer {SECRET}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


KINDS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
VERSIONS = pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])


@KINDS
@VERSIONS
async def test_a_client_that_half_closes_at_once_gets_its_answer(
    served: Served, provider: FakeProvider, stream: bool, version: str
) -> None:
    async with connected(served) as wire:
        wire.send(chat(stream=stream, version=version))
        wire.half_close()

        answered = await wire.rest()

    assert answered.startswith(b"HTTP/1.1 200 \r\n")
    assert answered.count(b"HTTP/1.1 ") == 1
    if not stream:
        assert (
            json.loads(answered.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]
            == "Hello!"
        )
    else:
        assert b'"content":"lo!"' in answered
        assert b"data: [DONE]" in answered


@KINDS
@VERSIONS
async def test_a_half_closed_client_waits_through_probes(
    served: Served, provider: FakeProvider, stream: bool, version: str
) -> None:
    gate = asyncio.Event()
    provider.will(answer("first", " done", gate=gate))
    async with connected(served) as wire:
        wire.send(chat(stream=stream, version=version))
        await provider.arrival()
        wire.half_close()
        early = await wire.until(b"HT")
        gate.set()
        answered = early + await wire.rest()

    assert answered.startswith(b"HTTP/1.1 200 \r\n")
    assert b"done" in answered
    assert answered.count(b"HTTP/1.1 ") == 1


async def test_in_a_stream_that_has_begun_the_probes_are_comments(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    async with connected(served) as wire:
        wire.send(chat(stream=True))
        request = await provider.arrival()
        await wire.until(b"Hel")

        wire.half_close()

        assert (await wire.until(b"3\r\n:\n\n\r\n")).startswith(b"3\r\n:\n\n\r\n")
        assert not request.disconnected.is_set()
        wire.socket.close()
        await asyncio.wait_for(request.disconnected.wait(), 5 * AT_ONCE)


def close(wire: Wire) -> None:
    wire.socket.close()


def reset(wire: Wire) -> None:
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.socket.close()


@KINDS
@VERSIONS
@pytest.mark.parametrize("leave", [close, reset])
async def test_a_client_that_has_left_stops_its_run_at_once(
    served: Served,
    provider: FakeProvider,
    stream: bool,
    version: str,
    leave: Callable[[Wire], None],
) -> None:
    provider.will(hang())
    async with connected(served) as wire:
        wire.send(chat(stream=stream, version=version))
        request = await provider.arrival()

        leave(wire)

        await asyncio.wait_for(request.disconnected.wait(), AT_ONCE)
    assert await served.text() == "Hello!"


@KINDS
async def test_a_half_closed_client_that_leaves_later_stops_its_run(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    provider.will(hang())
    async with connected(served) as wire:
        wire.send(chat(stream=stream))
        request = await provider.arrival()
        wire.half_close()
        await wire.until(b"H")

        wire.socket.close()

        await asyncio.wait_for(request.disconnected.wait(), 5 * AT_ONCE)


async def test_pipelined_requests_before_a_half_close_are_all_answered(served: Served) -> None:
    async with connected(served) as wire:
        for path in ("/healthz", "/nothing", "/readyz"):
            wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wire.half_close()

        answered = await wire.rest()

    assert re.findall(rb"HTTP/1\.1 (\d+)", answered) == [b"200", b"404", b"200"]


async def test_a_body_that_is_cut_off_by_a_half_close_starts_nothing(
    served: Served, provider: FakeProvider
) -> None:
    async with connected(served) as wire:
        wire.send(chat()[:-5])
        wire.half_close()

        answered = await wire.rest()

    assert b" 400 " in answered.partition(b"\r\n")[0]
    assert provider.requests == []


async def test_a_half_closed_connection_without_a_request_is_closed(served: Served) -> None:
    async with connected(served) as wire:
        wire.half_close()
        assert await wire.rest() == b""
