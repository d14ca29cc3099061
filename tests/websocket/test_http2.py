"""The same rules for a WebSocket that is one stream of an HTTP/2 connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import pytest

from opensoul.app.server.hypercorn import Timing
from tests.websocket.client import CLOSE, PING, TEXT, RawClient, close_frame, connected, frame
from tests.websocket.serving import Served, serving

pytestmark = pytest.mark.both_loops

_UPGRADE = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "127.0.0.1"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-extensions", "permessage-deflate"),
]

BRISK = Timing(ping_interval=0.02, pong_deadline=0.1, farewell=0.05)


class Stream:
    """The first stream of a connection, as a reader of frames and a sender of them."""

    def __init__(self, tcp: RawClient, window: int) -> None:
        self._tcp = tcp
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.local_settings.initial_window_size = window
        self._h2.local_settings.acknowledge()
        self._h2.initiate_connection()
        self._got = asyncio.StreamReader()
        self.client = RawClient(self._got, tcp.writer)
        self.over = asyncio.Event()
        self.headers: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def send(self, data: bytes) -> None:
        self._h2.send_data(1, data)
        self._flush()

    async def run(self) -> None:
        self._flush()
        while data := await self._tcp.reader.read(65_536):
            for event in self._h2.receive_data(data):
                self._on(event)
            self._flush()
        self.over.set()

    def _on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self._h2.send_headers(1, _UPGRADE)
        elif isinstance(event, h2.events.ResponseReceived):
            self.headers.set_result({str(k, "ascii"): str(v, "ascii") for k, v in event.headers})
        elif isinstance(event, h2.events.DataReceived):
            self._got.feed_data(event.data)
            self._h2.acknowledge_received_data(event.flow_controlled_length, 1)
        elif isinstance(event, h2.events.StreamEnded):
            self._got.feed_eof()

    def _flush(self) -> None:
        self._tcp.writer.write(self._h2.data_to_send())


@asynccontextmanager
async def stream(served: Served, window: int = 65_535) -> AsyncIterator[Stream]:
    async with connected(served.port) as tcp:
        one = Stream(tcp, window)
        running = asyncio.create_task(one.run())
        headers = await one.headers
        assert headers[":status"] == "200"
        assert "sec-websocket-extensions" not in headers
        yield one
        running.cancel()


async def test_a_stream_that_gives_no_room_is_cut_with_its_connection() -> None:
    async with serving(BRISK, http2=True) as served, stream(served, window=0) as one:
        await one.over.wait()
        await served.left.wait()


async def test_a_stream_echoes_and_closes_with_the_code_of_the_application() -> None:
    async with serving(http2=True) as served, stream(served) as one:
        one.send(frame(TEXT, b"hello"))
        assert await one.client.text() == "hello"
        one.send(frame(TEXT, b"close"))
        assert await one.client.closing() == (4001, "as asked")
        one.send(close_frame(4001))
        await one.client.ended()
        await served.left.wait()


async def test_a_stream_that_does_not_answer_a_ping_is_closed() -> None:
    async with (
        serving(BRISK, http2=True) as served,
        stream(served) as one,
    ):
        assert await one.client.frame() == (PING, b"")
        assert await one.client.frame() == (CLOSE, b"\x03\xe9ping timeout")
        await one.client.ended()
        await served.left.wait()
