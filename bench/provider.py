"""A mock model provider that responds at once, in its own process.

    python -m bench.provider --port 9000

It must not limit a measurement, so it parses only the length and model of requests, and prepares
its responses. The model selects the response:

    chunks-N   N chunks, each in a separate write and iteration of the event loop
    paced-N    the same with two milliseconds between them, so that a server gets them one by one
    slow-N     N chunks, one per second; the text of each is the time of its writing

Without `"stream": true` the response is a single document.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable
from typing import cast

import uvloop

from .wire import DONE, TOKEN, chunk, completion, framed

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_PAUSE = 0.002
_END = b"0\r\n\r\n"
_JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_MODEL = re.compile(rb'"model":\s?"(chunks|paced|slow)-(\d+)"')
_STREAM = re.compile(rb'"stream":\s?true')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answers:
    """The bytes of fast responses, cached by length."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[bytes, ...]] = {}
        whole = completion(TOKEN.decode())
        self.whole = (_JSON_HEAD % len(whole) + whole,)
        """The single write of a response that is not streamed."""

    def of(self, chunks: int) -> tuple[bytes, ...]:
        """The writes of a response with so many chunks; the last one includes the end."""
        if chunks not in self._known:
            model = f"chunks-{chunks}"
            text = framed(chunk(TOKEN.decode(), model))
            first = _HEAD + framed(chunk(None, model, first=True)) + text
            last = framed(chunk(None, model, reason="stop")) + framed(DONE) + _END
            self._known[chunks] = (first, *[text] * (chunks - 1), last)
        return self._known[chunks]


class _Connection(asyncio.Protocol):
    """One persistent connection with sequential requests."""

    def __init__(self, answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
        self._answers = answers
        self._loop = loop
        self._buffer = b""
        self._pieces: tuple[bytes, ...] = ()
        self._at = 0
        self._pause = 0.0
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it.

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head + 2)
        body_end = head + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < body_end:
            return
        model = _MODEL.search(self._buffer, head)
        streaming = _STREAM.search(self._buffer, head) is not None
        self._buffer = self._buffer[body_end:]
        kind, number = (model[1], int(model[2])) if model else (b"chunks", 1)
        if kind == b"slow":
            self._transport.write(_HEAD)
            self._send_times(number)
            return
        self._pieces = self._answers.of(number) if streaming else self._answers.whole
        self._at, self._pause = 0, _PAUSE if kind == b"paced" else 0.0
        self._write()

    def _write(self) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(self._pieces[self._at])
        self._at += 1
        if self._at == len(self._pieces):
            return
        if self._pause:
            self._timer = self._loop.call_later(self._pause, self._write)
        else:
            self._timer = self._loop.call_soon(self._write)

    def _send_times(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left == 0:
            stop = framed(chunk(None, "slow", reason="stop")) + framed(DONE) + _END
            self._transport.write(stop)
            return
        self._transport.write(framed(chunk(f"@{time.monotonic_ns()}@", "slow")))
        again: Callable[[int], None] = self._send_times
        self._timer = self._loop.call_later(1.0, again, left - 1)


async def serve(port: int) -> None:
    """Serve on loopback until cancelled."""
    loop, answers = asyncio.get_running_loop(), Answers()
    server = await loop.create_server(
        lambda: _Connection(answers, loop), "127.0.0.1", port, backlog=1_024
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A mock provider of models for the benchmark.")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(port))


if __name__ == "__main__":
    main()
