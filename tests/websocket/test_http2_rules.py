"""HTTP/2 where it is switched on: floods end their connection, and no stream ends another."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes
from hypothesis import given
from hypothesis import strategies as st

from opensoul.app.server.hypercorn.http2 import FrameCounter
from opensoul.app.server.hypercorn.pacing import TURN
from tests.floods.attack import OVER_HTTP2, PREFACE, h2_frame, h2_request
from tests.websocket.client import RawClient, connected
from tests.websocket.serving import Served, serving

pytestmark = pytest.mark.both_loops

PAST_ALL = 400_000
"""Bytes of a flood: more than are ever taken."""
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/nothing"), (":authority", "localhost")]
POST = [(":method", "POST"), *GET[1:]]


class Peer:
    """A client of HTTP/2, with what it has got of each stream."""

    def __init__(self, tcp: RawClient) -> None:
        config = h2.config.H2Configuration(client_side=True)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self._tcp = tcp

    async def until(
        self, kind: type[h2.events.Event], stream: int | None = None
    ) -> h2.events.Event:
        """Read on until there is such an event. EOFError at the end of the connection."""
        while True:
            self._tcp.writer.write(self.h2.data_to_send())
            data = await self._tcp.reader.read(65_536)
            if not data:
                raise EOFError
            for event in self.h2.receive_data(data):
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    return event

    async def status(self, stream: int) -> str:
        event = await self.until(h2.events.ResponseReceived, stream)
        assert isinstance(event, h2.events.ResponseReceived)
        return dict(event.headers)[b":status"].decode()


@asynccontextmanager
async def http2(
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[tuple[Served, RawClient]]:
    """A server that reports no error, and a connection to it."""
    async with serving(http2=True) as served, connected(served.port) as tcp:
        yield served, tcp
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "name",
    ["PING", "SETTINGS", "large SETTINGS", "PRIORITY", "WINDOW_UPDATE", "unknown frames"],
)
async def test_a_flood_of_frames_is_told_to_calm_down(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    flood = OVER_HTTP2[name]
    async with http2(caplog) as (_, tcp):
        tcp.writer.write(flood.begin + flood.again * (PAST_ALL // len(flood.again)))
        assert await goaway(tcp) == ErrorCodes.ENHANCE_YOUR_CALM


async def test_streams_that_are_opened_and_reset_are_told_to_calm_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with http2(caplog) as (_, tcp):
        tcp.writer.write(OVER_HTTP2["rapid resets"].begin)
        assert await goaway(tcp) == ErrorCodes.ENHANCE_YOUR_CALM


async def goaway(tcp: RawClient) -> int:
    """The code of the frame that says why the connection ends."""
    while True:
        head = await tcp.reader.readexactly(9)
        payload = await tcp.reader.readexactly(int.from_bytes(head[:3]))
        if head[3] == 7:
            return int.from_bytes(payload[4:8])


async def test_a_refused_upload_is_reset_and_other_streams_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with http2(caplog) as (_, tcp):
        peer = Peer(tcp)
        peer.h2.send_headers(1, POST)
        assert await peer.status(1) == "404"
        for _ in range(2):
            peer.h2.send_data(1, b"x" * 10_000)
        reset = await peer.until(h2.events.StreamReset, 1)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == ErrorCodes.NO_ERROR
        peer.h2.send_headers(3, GET, end_stream=True)
        assert await peer.status(3) == "404"


@pytest.mark.parametrize(
    "headers",
    [
        [(":method", "CONNECT"), (":authority", "localhost")],
        [(":method", "CONNECT"), (":protocol", "other"), *GET[1:]],
        [(":method", "G\xcbT"), *GET[1:]],
        [*GET[:2], (":path", "/\xcb"), GET[3]],
    ],
)
async def test_a_request_that_cannot_be_served_ends_its_stream_alone(
    caplog: pytest.LogCaptureFixture, headers: list[tuple[str, str]]
) -> None:
    async with http2(caplog) as (_, tcp):
        tcp.writer.write(PREFACE + h2_request(1, *headers) + h2_request(3, *GET))
        codes: dict[int, int] = {}
        while 3 not in codes:
            head = await tcp.reader.readexactly(9)
            payload = await tcp.reader.readexactly(int.from_bytes(head[:3]))
            stream = int.from_bytes(head[5:9])
            if head[3] == 3:
                codes[stream] = int.from_bytes(payload)
            elif head[3] == 1:
                codes[stream] = -1
        assert codes == {1: ErrorCodes.PROTOCOL_ERROR, 3: -1}


async def test_priorities_are_ignored_also_circular_ones(caplog: pytest.LogCaptureFixture) -> None:
    circle = h2_frame(2, (3).to_bytes(4) + b"\1", stream=1)
    circle += h2_frame(2, (1).to_bytes(4) + b"\1", stream=3)
    async with http2(caplog) as (_, tcp):
        many = b"".join(
            h2_frame(2, (n + 2).to_bytes(4) + b"\1", stream=n) for n in range(5, 2_505, 2)
        )
        tcp.writer.write(PREFACE + circle + many + h2_request(2_601, *GET))
        while (await tcp.reader.readexactly(9))[3:4] != b"\1":
            pass


async def test_an_idle_connection_gets_the_keep_alive_of_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["opensoul.app.server.host"], "_KEEP_ALIVE", 0.05)
    async with serving(http2=True) as served, connected(served.port) as tcp:
        tcp.writer.write(PREFACE)
        await tcp.reader.read()


@given(
    sizes=st.lists(st.integers(0, 700), max_size=150),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=20),
)
def test_frames_are_counted_however_tcp_divides_them(sizes: list[int], cuts: list[int]) -> None:
    kinds = (0, 1, 3, 4, 6, 8)
    whole = b"".join(h2_frame(kinds[n % 6], bytes(size)) for n, size in enumerate(sizes))
    sent = PREFACE[:24] + whole
    counter, once = FrameCounter(), FrameCounter()
    pieces: list[tuple[bytes, int]] = []
    at = number = 0
    while at < len(sent):
        step = cuts[number % len(cuts)]
        pieces += counter.pieces(sent[at : at + step])
        at, number = at + step, number + 1
    assert b"".join(piece for piece, _ in pieces) == sent
    at_once = list(once.pieces(sent))
    assert sum(price for _, price in pieces) == sum(price for _, price in at_once)
    assert len(at_once) >= len(sizes) / TURN
