"""Answers whose HTTP is unusual: compressed, with long headers, or with faults that are named."""

from __future__ import annotations

import gzip
import zlib

import brotli
import orjson
import pytest

from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.errors import FailureKind
from tests.fakes import behaviours as fake
from tests.fakes.behaviours import Behaviour, Exchange
from tests.fakes.provider import FakeProvider

from .calls import call, collect, failure, text_of

EVENTS = [
    b"data: " + orjson.dumps(fake.chunk({"content": text})) + b"\n\n" for text in ("Hel", "lo")
] + [b"data: " + orjson.dumps(fake.chunk({}, "stop")) + b"\n\ndata: [DONE]\n\n"]
STREAM = b"".join(EVENTS)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def answering(*headers: bytes, body: bytes = STREAM, status: bytes = b"200 OK") -> Behaviour:
    lines = [b"HTTP/1.1 " + status, b"Content-Type: text/event-stream", *headers]
    lines.append(b"Content-Length: %d" % len(body))
    return fake.raw_http(b"\r\n".join(lines) + b"\r\n\r\n" + body)


def encoded(name: bytes, body: bytes = STREAM) -> Behaviour:
    return answering(b"Content-Encoding: " + name, body=body)


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(encoded(b"gzip", gzip.compress(STREAM)), id="gzip"),
        pytest.param(encoded(b"deflate", zlib.compress(STREAM)), id="deflate"),
        pytest.param(encoded(b"deflate", zlib.compress(STREAM)[2:-4]), id="deflate without zlib"),
        pytest.param(encoded(b"br", brotli.compress(STREAM)), id="brotli"),
        pytest.param(encoded(b"BR", brotli.compress(STREAM)), id="brotli in capitals"),
        pytest.param(encoded(b"identity"), id="not compressed, and said so"),
        pytest.param(encoded(b"utf-8"), id="a character set for an encoding"),
        pytest.param(answering(b"X-Policy: " + b"x" * 9_000), id="a header of 9 kB"),
        pytest.param(answering(b"X-Policy: " + b"x" * 60_000), id="a header of 60 kB"),
        pytest.param(answering(status=b"200 " + b"x" * 9_000), id="a long status line"),
    ],
)
async def test_an_unusual_answer_is_read(
    provider: FakeProvider, client: OpenAICompletions, behaviour: Behaviour
) -> None:
    provider.will(behaviour)
    assert text_of(await collect(client, call(provider.base_url))) == "Hello"


@pytest.mark.parametrize("name", ["br", "gzip"])
async def test_a_compressed_stream_is_told_piece_by_piece(
    provider: FakeProvider, client: OpenAICompletions, name: str
) -> None:
    """Where the provider flushes each event."""
    packer = brotli.Compressor() if name == "br" else None
    zipper = zlib.compressobj(wbits=31)

    def packed(event: bytes) -> bytes:
        if packer is not None:
            return bytes(packer.process(event) + packer.flush())
        return zipper.compress(event) + zipper.flush(zlib.Z_SYNC_FLUSH)

    async def never_ends(exchange: Exchange) -> None:
        head = OK + f"Content-Encoding: {name}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        await exchange.raw(head)
        await exchange.piece(packed(EVENTS[0]))
        await exchange.request.disconnected.wait()

    provider.will(never_ends)
    stream = client.stream(call(provider.base_url))
    (event,) = await anext(stream)
    await stream.aclose()
    assert text_of([event]) == "Hel"


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        pytest.param(encoded(b"zstd", b"x"), "compressed with zstd", id="zstd"),
        pytest.param(encoded(b"x-gzip", gzip.compress(STREAM)), "as 'x-gzip'", id="x-gzip"),
        pytest.param(encoded(b"gzip, br", b"x"), "as 'gzip, br'", id="two encodings"),
        pytest.param(encoded(b"gzip"), "its gzip compression is damaged", id="bad gzip"),
        pytest.param(encoded(b"br"), "its br compression is damaged", id="bad brotli"),
        pytest.param(
            fake.raw_http(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "both a Content-Length and a chunked body",
            id="two lengths",
        ),
        pytest.param(answering(b"X: " + b"x" * 70_000), "longer than 64 kB", id="long header"),
        pytest.param(answering(*[b"X: y"] * 200), "too many headers", id="many headers"),
        pytest.param(answering(b"X Y: z"), "headers are malformed", id="malformed header"),
        pytest.param(fake.raw_http(b"SSH-2.0-x\r\n\r\n"), "does not speak HTTP", id="ssh"),
        pytest.param(
            fake.raw_http(b"\x15\x03\x01\x00\x02\x02\x46"), "begin with https://", id="tls"
        ),
    ],
)
async def test_what_cannot_be_read_is_named(
    provider: FakeProvider, client: OpenAICompletions, behaviour: Behaviour, problem: str
) -> None:
    provider.will(behaviour)
    _, error = await failure(client, call(provider.base_url))
    assert error.kind is FailureKind.BAD_RESPONSE
    assert problem in error.message
    assert error.reason == error.message  # So it is logged.
