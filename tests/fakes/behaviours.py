"""The behaviours of a FakeProvider: each function returns one Behaviour."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

USAGE: Mapping[str, Any] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
EVENT_STREAM = "text/event-stream; charset=utf-8"


@dataclass(slots=True, eq=False)
class Received:
    """One received request and the state of its response. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    json: Any
    """The decoded body; None if it is not JSON."""
    connection: int
    """The number of the TCP connection, from 1; equal numbers mean that it was reused."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """The first byte of the response was sent."""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """The caller closed the connection before the behaviour had ended."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The behaviour has ended."""


class Exchange:
    """One request and the methods to respond to it; the argument of a Behaviour."""

    def __init__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.reusable = False
        """The response is complete, so the connection can be reused."""
        self._writer = writer

    async def raw(self, data: bytes) -> None:
        """Send bytes without framing."""
        self._writer.write(data)
        self.request.started.set()
        await self._writer.drain()

    async def head(self, content_type: str = EVENT_STREAM, status: int = 200) -> None:
        """Begin a response with a chunked body; "": without a content type."""
        lines = [f"HTTP/1.1 {status} Status", "Transfer-Encoding: chunked"]
        lines += [f"Content-Type: {content_type}"] if content_type else []
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def piece(self, data: bytes) -> None:
        """Send a piece of the body as one HTTP chunk."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, content: object) -> None:
        """Send one server-sent event of JSON."""
        await self.piece(b"data: " + orjson.dumps(content) + b"\n\n")

    async def end(self) -> None:
        """End a chunked body."""
        await self.raw(b"0\r\n\r\n")
        self.reusable = True

    async def whole(
        self, status: int, body: bytes, content_type: str, headers: Mapping[str, str]
    ) -> None:
        """Send a complete response with a Content-Length."""
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}"]
        lines.append(f"Content-Type: {content_type}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.reusable = True
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def abort(self) -> None:
        """Abort the connection."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """Abort the connection, so that the caller's system reports a reset."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """A `chat.completion.chunk` as providers send it."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish_reason}
    shared = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
    return {**shared, "choices": [choice]}


async def _forever() -> None:
    await asyncio.Event().wait()  # Until the caller disconnects or the provider is closed.


def answer(
    *texts: str,
    usage: Mapping[str, Any] | None = USAGE,
    finish_reason: str | None = "stop",
    reasoning: Sequence[str] = (),
    tool_calls: Sequence[Mapping[str, Any]] = (),
    delay: float = 0.0,
    gate: asyncio.Event | None = None,
    done: bool = True,
) -> Behaviour:
    """Stream an answer: a role chunk, reasoning, texts, tool calls, finish reason, usage, [DONE].

    Each of `tool_calls` is one item of a `tool_calls` delta, sent in a chunk of its own. `gate`
    is waited for before every text but the first, `delay` (seconds) slept. Usage is sent when the
    request asks for it, as OpenAI does; None sends none.
    """

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(chunk({"role": "assistant", "content": ""}))
        for thought in reasoning:
            await exchange.event(chunk({"reasoning_content": thought}))
        for i, text in enumerate(texts):
            if i and gate is not None:
                await gate.wait()
            if i and delay:
                await asyncio.sleep(delay)
            await exchange.event(chunk({"content": text}))
        for call in tool_calls:
            await exchange.event(chunk({"tool_calls": [call]}))
        if finish_reason is not None:
            await exchange.event(chunk({}, finish_reason))
        if usage is not None and (exchange.request.json or {}).get("stream_options"):
            await exchange.event({**chunk({}), "choices": [], "usage": dict(usage)})
        if done:
            await exchange.piece(b"data: [DONE]\n\n")
        await exchange.end()

    return behave


def slow(*texts: str, delay: float) -> Behaviour:
    """An answer with `delay` seconds before each text but the first."""
    return answer(*texts, delay=delay)


def no_done(*texts: str) -> Behaviour:
    """A complete answer whose stream has no [DONE]."""
    return answer(*texts, done=False)


def no_finish(*texts: str, done: bool = False) -> Behaviour:
    """An answer without a finish reason; the HTTP response is complete."""
    return answer(*texts, finish_reason=None, usage=None, done=done)


def fail(status: int, body: object = None, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Respond with an error status. `body`: bytes, a text, or anything else as JSON; None: OpenAI's
    error object."""
    if body is None:
        body = {"error": {"message": f"Fake failure {status}.", "type": "fake", "code": None}}
    kind = "text/plain" if isinstance(body, bytes | str) else "application/json"
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    data = body.encode() if isinstance(body, str) else data

    async def behave(exchange: Exchange) -> None:
        await exchange.whole(status, data, kind, headers or {})

    return behave


def cut(*texts: str, politely: bool = False, gate: asyncio.Event | None = None) -> Behaviour:
    """Send these texts, then break off the connection: by reset, or `politely` by closing it.

    An HTTP client may drop what it had received when the break comes right behind it; a test that
    wants to see the texts sets `gate`, which is waited for before the break, when it has them.
    """

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.event(chunk({"content": text}))
        if gate is not None:
            await gate.wait()
        if not politely:
            exchange.abort()

    return behave


def hang() -> Behaviour:
    """Never answer."""

    async def behave(exchange: Exchange) -> None:
        await _forever()

    return behave


def hang_after(*texts: str) -> Behaviour:
    """Send the headers and these texts, then nothing more."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.event(chunk({"content": text}))
        await _forever()

    return behave


def garbage(*texts: str) -> Behaviour:
    """Send these texts, then an event that is not JSON."""
    events = [b"data: " + orjson.dumps(chunk({"content": text})) + b"\n\n" for text in texts]
    return raw(*events, b"data: {%$&\n\n")


def html(status: int = 200) -> Behaviour:
    """A web page, as from a proxy."""

    async def behave(exchange: Exchange) -> None:
        await exchange.whole(status, b"<html><h1>Welcome</h1></html>", "text/html", {})

    return behave


def error_in_stream(*texts: str, error: object) -> Behaviour:
    """Send these texts, then `{"error": error}`, with status 200."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        for text in texts:
            await exchange.event(chunk({"content": text}))
        await exchange.event({"error": error})
        await exchange.end()

    return behave


def json_instead_of_sse(content: object) -> Behaviour:
    """Ignore `stream: true`. `content`: the response document, or the text of an answer."""
    if isinstance(content, str):
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        content = {"object": "chat.completion", "choices": [choice], "usage": dict(USAGE)}
    data = orjson.dumps(content)

    async def behave(exchange: Exchange) -> None:
        await exchange.whole(200, data, "application/json", {})

    return behave


def raw(*pieces: bytes, content_type: str = EVENT_STREAM, status: int = 200) -> Behaviour:
    """Send a complete body in these pieces, each in a separate packet."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head(content_type, status)
        for piece in pieces:
            await exchange.piece(piece)
        await exchange.end()

    return behave


def raw_http(data: bytes) -> Behaviour:
    """Send these bytes instead of an HTTP response, and close the connection."""

    async def behave(exchange: Exchange) -> None:
        await exchange.raw(data)

    return behave
