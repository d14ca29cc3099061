"""Many connections at once, and one that never reads."""

from __future__ import annotations

import asyncio
import json
import resource
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.app.serving import SECRET, Served
from tests.control.client import Peer, connect_params, connected
from tests.control.conftest import Enter
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

MANY = 500
WORDS = tuple(f"w{number} " for number in range(20))


def open_files() -> int:
    """How many more files this process may have, raised as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def enter_all(served: Served, stack: AsyncExitStack, count: int) -> list[Peer]:
    """That many connections; a few at a time, for the source counts those in their handshake."""
    connector = aiohttp.TCPConnector(limit=0)
    client = await stack.enter_async_context(aiohttp.ClientSession(served.url, connector=connector))
    source = asyncio.Semaphore(16)

    async def one() -> Peer:
        async with source:
            return await stack.enter_async_context(connected(client, SECRET))

    return [await one() for _ in range(count)]


async def follow_to_the_end(peer: Peer, run_id: str) -> list[int]:
    numbers = []
    while True:
        payload = (await peer.event("agent", runId=run_id))["payload"]
        numbers.append(payload["seq"])
        if payload["data"].get("phase") == "end":
            return numbers


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_five_hundred_connections_each_follow_a_run_and_lose_nothing(
    served: Served, provider: FakeProvider
) -> None:
    if open_files() < 4 * MANY:
        pytest.skip("this process may not open so many files")
    gate = asyncio.Event()
    provider.default = answer(*WORDS, gate=gate)
    async with AsyncExitStack() as stack:
        starter, *peers = await enter_all(served, stack, MANY + 1)
        for number, peer in enumerate(peers):
            asked = {
                "message": "go",
                "sessionKey": f"talk-{number}",
                "idempotencyKey": f"run-{number}",
            }
            await starter.call("chat.send", asked)
            await peer.call("runs.follow", {"runId": f"run-{number}", "afterSeq": 0})
        following = [
            asyncio.create_task(follow_to_the_end(peer, f"run-{number}"))
            for number, peer in enumerate(peers)
        ]
        gate.set()

        async with asyncio.timeout(120):
            seen = await asyncio.gather(*following)

    assert all(numbers == list(range(1, len(WORDS) + 3)) for numbers in seen)


async def test_a_client_that_never_reads_is_closed_and_costs_nobody_anything(
    served: Served, enter: Enter, provider: FakeProvider
) -> None:
    words = ["x" * 10_000] * 600
    provider.default = answer(*words)
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**16)
    await upgrade(reader, writer)
    for number in range(5):
        deaf = {"sessionKey": f"loud-{number}", "message": "hi", "idempotencyKey": f"K{number}"}
        frame = {"type": "req", "id": f"{number}", "method": "chat.send", "params": deaf}
        writer.write(masked(frame))
    await writer.drain()

    async with enter() as peer:
        hub = served.container.control().hub
        await peer.call("sessions.messages.subscribe", {"key": "loud-0"})
        final = await peer.event("chat", state="final")
        assert len(final["payload"]["message"]["content"][0]["text"]) == 6_000_000
        async with asyncio.timeout(20):
            while len(hub) > 1:
                await peer.call("runs.list")
        assert (await peer.call("runs.get", {"runId": "K0"}))["status"] == "finished"
        # Whoever else is there lives on, and the runs of the deaf one, too.
        for number in range(1, 5):
            ended = await peer.call("agent.wait", {"runId": f"K{number}", "timeoutMs": 20_000})
            assert ended["status"] == "ok"
    writer.close()


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connect, and say hello, with as little reading as can be."""
    writer.write(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    frame = {"type": "req", "id": "1", "method": "connect", "params": connect_params(SECRET)}
    writer.write(masked(frame))
    await writer.drain()
    await reader.readuntil(b"hello-ok")


def masked(frame: object) -> bytes:
    """A text frame of a client whose mask is zero."""
    text = json.dumps(frame).encode()
    length = (
        bytes([0x80 | len(text)])
        if len(text) < 126
        else bytes([0x80 | 126]) + len(text).to_bytes(2, "big")
    )
    return b"\x81" + length + bytes(4) + text
