"""What one connection may send, and that others get their turn: counted, not timed."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypercorn.protocol.h11 import H11WSConnection
from wsproto.events import BytesMessage

from opensoul.adapters.transports.control.protocol.socket_control import (
    FRAME_BURST,
    MAX_FRAMES_BEFORE_HELLO,
    SMALL_FRAME,
)
from opensoul.app.server.hypercorn import http1 as http1_rules
from opensoul.app.server.hypercorn.http1 import MAX_HEADERS
from opensoul.app.server.hypercorn.pacing import TURN, FrameBudget, Turns
from opensoul.app.server.hypercorn.websocket_message import ByteCounter
from opensoul.app.server.hypercorn.websocket_stream import TOO_MANY_FRAMES
from tests.websocket.client import (
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawClient,
    connected,
    frame,
    opened,
    upgrade,
)
from tests.websocket.serving import Served

pytestmark = pytest.mark.both_loops

PAST_ALL = 50_000
"""Frames of a flood: more than are ever taken."""


async def closing(client: RawClient) -> tuple[int, str]:
    """The close frame, behind the answers to pings."""
    while (got := await client.frame())[0] in (PONG, TEXT):
        pass
    return struct.unpack("!H", got[1][:2])[0], got[1][2:].decode()


@asynccontextmanager
async def let_in(served: Served) -> AsyncIterator[RawClient]:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"raise the limit"))
        assert await client.text() == "raise the limit"
        yield client


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"", frame(PING)),
        (b"", frame(PING, b"x" * 125)),
        (b"", frame(PONG)),
        (frame(TEXT, fin=False), frame(CONTINUATION, fin=False)),
        (frame(TEXT, b"x", fin=False), frame(CONTINUATION, b"x", fin=False)),
        (frame(TEXT, fin=False), frame(CONTINUATION, fin=False) + frame(PING)),
    ],
)
async def test_a_flood_of_frames_is_closed_with_1008(
    served: Served, known: bool, begin: bytes, again: bytes
) -> None:
    async with let_in(served) if known else opened(served.port) as client:
        client.send(begin, again * PAST_ALL)
        assert await closing(client) == (1008, TOO_MANY_FRAMES)


async def test_before_the_client_is_known_every_frame_counts(served: Served) -> None:
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"x") * (MAX_FRAMES_BEFORE_HELLO - 1))
        for _ in range(MAX_FRAMES_BEFORE_HELLO - 1):
            assert await client.text() == "x"
        client.send(frame(PING))
        assert await client.frame() == (PONG, b"")
        client.send(frame(TEXT, b"x"))
        assert await client.closing() == (1008, TOO_MANY_FRAMES)


async def test_whole_messages_and_large_fragments_of_a_known_client_do_not_count(
    served: Served,
) -> None:
    async with let_in(served) as client:
        client.send(frame(TEXT, b"x") * 2 * FRAME_BURST)
        for _ in range(2 * FRAME_BURST):
            assert await client.text() == "x"
        middle = frame(CONTINUATION, b"x" * SMALL_FRAME, fin=False)
        client.send(frame(TEXT, fin=False), middle * 2 * FRAME_BURST, frame(CONTINUATION))
        assert await client.text() == "x" * SMALL_FRAME * 2 * FRAME_BURST


async def test_a_frame_that_tcp_divides_is_one_frame(served: Served) -> None:
    async with opened(served.port) as client:
        for byte in frame(TEXT, b"x" * 2 * MAX_FRAMES_BEFORE_HELLO):
            client.send(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert await client.text() == "x" * 2 * MAX_FRAMES_BEFORE_HELLO


async def test_others_get_a_turn_while_frames_are_answered(served: Served) -> None:
    """Between two turns of the loop no more than 32 of the pings that are there are answered."""
    async with let_in(served) as client:
        wire = served.wires[0]
        most = 0
        client.send(frame(PING) * (FRAME_BURST - 1))
        answered = before = wire.writes  # type: ignore[attr-defined]
        while wire.writes < answered + FRAME_BURST - 1:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            most, before = max(most, wire.writes - before), wire.writes  # type: ignore[attr-defined]
        assert 1 < most <= TURN


async def test_work_that_is_counted_gives_way_after_so_many_steps() -> None:
    turns = Turns()
    seen: list[int] = []
    done = 0

    async def other() -> None:
        while done < 10 * TURN:
            seen.append(done)
            await asyncio.sleep(0)

    watching = asyncio.create_task(other())
    await asyncio.sleep(0)
    for done in range(1, 10 * TURN + 1):  # noqa: B007 (the other task looks at it)
        await turns.step()
    await watching
    assert seen == [TURN * n for n in range(10)]


def test_a_budget_is_spent_and_filled_again_by_time_and_by_answers() -> None:
    now = 0.0
    budget = FrameBudget(10, 2.0, lambda: now)
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    now = 3.0
    assert [budget.take() for _ in range(6)] == [True] * 5 + [False]
    budget.give(100)
    assert [budget.take(5) for _ in range(3)] == [True, True, False]


def test_every_fragment_counts_at_least_64_bytes_of_its_message() -> None:
    counter = ByteCounter(lambda: 10_000)
    for _ in range(100):
        counter.extend(BytesMessage(b"x", message_finished=False))
    assert counter.length == 6_400
    counter.extend(BytesMessage(b"x" * 1_000, frame_finished=False, message_finished=False))
    counter.extend(BytesMessage(b"x" * 1_000, message_finished=False))
    assert counter.length == 8_400
    counter.clear()
    counter.extend(BytesMessage(b"x"))
    assert counter.length == 1


GET = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


async def status(client: RawClient) -> bytes:
    return (await client.reader.readline()).split(b" ")[1]


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (GET + b"a:\r\n" * (MAX_HEADERS - 1) + b"\r\n", b"404"),
        (GET + b"a:\r\n" * MAX_HEADERS + b"\r\n", b"431"),
        (GET + b"a: " + b"x" * 100_000, b"431"),
        (GET + b"a:\r\n" * 20_000, b"431"),
        (POST + b"0\r\n" + b"a:\r\n" * 20_000, b"431"),
        (POST + b"1;" + b"x" * 100_000, b"431"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100_000), b"505"),
        (b"\x16\x03\x01" + bytes(100_000), b"400"),
        (
            GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            b"404",
        ),
        (GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: %%\r\n\r\n", b"404"),
    ],
)
async def test_heads_are_bounded_and_http2_is_refused(
    served: Served, sent: bytes, answer: bytes
) -> None:
    async with connected(served.port) as client:
        client.send(sent)
        assert await status(client) == answer


async def test_a_body_in_far_too_many_pieces_ends_the_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1_rules, "FREE_PIECES", 100)
    body = b"1\r\nx\r\n"
    async with connected(served.port) as client:
        client.send(POST, body * 50, b"40\r\n%b\r\n" % (b"x" * 64))
        client.send(body * 50, b"0\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await client.reader.readexactly(3) == b"164"
        client.send(POST, body * 200)
        assert await client.reader.read() == b""


async def test_bytes_of_many_requests_are_parsed_in_slices(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = H11WSConnection.receive_data

    def recording(self: H11WSConnection, data: bytes) -> None:
        sizes.append(len(data))
        original(self, data)

    monkeypatch.setattr(H11WSConnection, "receive_data", recording)
    async with opened(served.port) as client:
        client.send(frame(TEXT, b"x" * 60_000))
        assert await client.text() == "x" * 60_000
    assert max(sizes) <= 16_384 < 60_000 <= sum(sizes)


async def test_frames_behind_the_upgrade_are_bounded_as_well(served: Served) -> None:
    async with connected(served.port) as client:
        client.send(upgrade(), frame(PING) * PAST_ALL)
        await client.reader.readuntil(b"\r\n\r\n")
        assert await closing(client) == (1008, TOO_MANY_FRAMES)


async def test_a_client_that_does_not_read_is_cut_in_its_flood(served: Served) -> None:
    async with opened(served.port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(frame(PING, os.urandom(125)) * PAST_ALL)
        await served.left.wait()
