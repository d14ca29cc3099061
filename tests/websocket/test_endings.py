"""Every connection ends in bounded time, whatever its client does, and the application hears."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable

import pytest

from opensoul.adapters.transports.control.protocol.socket_control import NoWire, Wire, wire_of
from opensoul.app.server.hypercorn import Timing
from tests.websocket.client import CLOSE, PING, PONG, TEXT, RawClient, close_frame, frame, opened
from tests.websocket.serving import Served, serving

pytestmark = pytest.mark.both_loops

BRISK = Timing(ping_interval=0.02, pong_deadline=0.1, farewell=0.05)


async def test_the_application_closes_with_code_and_reason_and_waits_for_the_answer(
    served: Served,
) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"close"))
        assert await client.closing() == (4001, "as asked")
        client.send(frame(TEXT, b"late"), close_frame(4001))
        await client.ended()
        assert "late" not in served.taken


async def test_an_application_that_returns_closes_normally(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"return"))
        assert (await client.closing())[0] == 1000
        client.send(close_frame(1000))
        await client.ended()


async def test_an_application_that_fails_closes_with_1011(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL, "hypercorn.error"):
        async with opened(served.port, "/broken") as client:
            assert (await client.closing())[0] == 1011
            client.send(close_frame(1011))
            await client.ended()


async def test_a_client_that_does_not_answer_a_close_frame_is_not_waited_for() -> None:
    async with serving(BRISK) as served, opened(served.port) as client:
        client.send(frame(TEXT, b"close"))
        assert await until_close(client) == (4001, "as asked")
        await client.ended()


async def test_a_client_that_answers_pings_stays() -> None:
    async with serving(BRISK) as served, opened(served.port) as client:
        for _ in range(10):
            opcode, payload = await client.frame()
            assert opcode == PING
            client.send(frame(PONG, payload))
        client.send(frame(TEXT, b"still here"))
        while (got := await client.frame())[0] == PING:
            client.send(frame(PONG, got[1]))
        assert got == (TEXT, b"still here")


async def test_any_frame_counts_as_life() -> None:
    async with serving(BRISK) as served, opened(served.port) as client:
        for _ in range(10):
            while (await client.frame())[0] != PING:
                pass
            client.send(frame(TEXT, b"busy"))


async def test_a_client_that_does_not_answer_a_ping_is_told_and_closed() -> None:
    async with serving(BRISK) as served, opened(served.port) as client:
        assert await until_close(client) == (1001, "ping timeout")
        await client.ended()
        await served.left.wait()


async def test_a_client_that_never_reads_is_cut_and_its_handler_ends() -> None:
    async with serving(BRISK) as served, opened(served.port, "/talkative"):
        await served.left.wait()


async def test_a_client_that_reads_slowly_but_answers_is_not_cut() -> None:
    async with serving(BRISK) as served, opened(served.port, "/talkative") as client:
        pings = 0
        while pings < 5:
            opcode, payload = await client.frame()
            if opcode == PING:
                pings += 1
                client.send(frame(PONG, payload))
        assert not served.left.is_set()


async def test_the_application_cuts_a_client_that_takes_nothing(served: Served) -> None:
    async with opened(served.port, "/talkative"):
        await served.connected.wait()
        (wire,) = served.wires
        await stuck(wire)
        wire.cut()
        wire.cut()
        await served.left.wait()
        await wire.ended()


async def test_a_client_that_never_reads_is_cut_soon_when_there_is_a_reason_to_close() -> None:
    async with (
        serving(Timing(farewell=0.05)) as served,
        opened(served.port, "/talkative") as client,
    ):
        await served.connected.wait()
        (wire,) = served.wires
        await stuck(wire)
        client.send(frame(3))
        await served.left.wait()
        while wire.unsent():  # noqa: ASYNC110 (a socket's buffer tells nobody)
            await asyncio.sleep(0)


async def test_a_client_that_vanishes_ends_its_handler(served: Served) -> None:
    async with opened(served.port) as client:
        await served.connected.wait()
        client.writer.transport.abort()
        await served.left.wait()


def close_at_once(client: RawClient) -> None:
    client.writer.close()


def close_half(client: RawClient) -> None:
    client.writer.write_eof()


def reset(client: RawClient) -> None:
    linger = struct.pack("ii", 1, 0)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.writer.transport.abort()


LAST_FRAMES = {
    "none": b"",
    "close": close_frame(1000),
    "close-without-code": frame(CLOSE),
    "reserved-opcode": frame(3),
    "half-a-frame": b"\x81\xfe\xff",
    "message": frame(TEXT, b"x" * 50_000),
    "asks-to-be-closed": frame(TEXT, b"close"),
}


@pytest.mark.parametrize("leave", [close_at_once, close_half, reset])
@pytest.mark.parametrize("last", LAST_FRAMES.values(), ids=LAST_FRAMES)
async def test_no_departure_is_an_error_in_the_server(
    served: Served, last: bytes, leave: Callable[[RawClient], None]
) -> None:
    """What a loop reports fails the test: see tests/conftest.py."""
    async with opened(served.port) as client:
        await served.connected.wait()
        client.send(last)
        leave(client)
        await served.left.wait()


async def test_a_flood_is_held_back_and_nothing_of_it_lost() -> None:
    patient = Timing(ping_interval=0.02, pong_deadline=0.02, farewell=0.05)
    async with serving(patient) as served, opened(served.port, "/slow") as client:
        flood = frame(TEXT, b"x" * 60_000)
        sent = await fill(client.writer, flood, 1_000)
        assert sent < 1_000
        # The client's answers wait behind its flood: that is not its fault.
        for _ in range(5):
            assert (await client.frame())[0] == PING
        served.read_on.set()
        while True:
            opcode, payload = await client.frame()
            if opcode == PING:
                client.send(frame(PONG, payload))
            elif payload == str(sent).encode():
                break


async def test_a_client_cut_while_it_is_held_back_ends_its_handler(served: Served) -> None:
    async with opened(served.port, "/slow") as client:
        await fill(client.writer, frame(TEXT, b"x" * 60_000), 1_000)
        served.wires[0].cut()
        await served.left.wait()


async def test_where_the_server_offers_no_wire_nothing_is_limited_or_cut() -> None:
    wire = wire_of({"extensions": {}})
    wire.limit, wire.limit_reason = 5, "any"
    wire.cut()
    assert wire == NoWire(5, "any")
    assert wire.unsent() == 0
    assert wire_of({}) == NoWire()


async def stuck(wire: Wire) -> None:
    """Until the client's system takes no more."""
    while wire.unsent() == 0:  # noqa: ASYNC110 (a socket's buffer tells nobody)
        await asyncio.sleep(0)


async def until_close(client: RawClient) -> tuple[int, str]:
    """The close frame, after whatever pings, which stay unanswered."""
    while (got := await client.frame())[0] == PING:
        pass
    return int.from_bytes(got[1][:2]), got[1][2:].decode()


async def fill(writer: asyncio.StreamWriter, one: bytes, at_most: int) -> int:
    """Send until the server takes no more; how many of them went out or wait here."""
    for sent in range(1, at_most + 1):
        writer.write(one)
        try:
            async with asyncio.timeout(0.5):
                await writer.drain()
        except TimeoutError:
            return sent
    return at_most
