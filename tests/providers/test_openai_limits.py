"""Providers that never stop: an answer has a size, and others get their turn while it is read."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace

import brotli
import orjson
import pytest

from opensoul.adapters.providers.http.errors import advised_wait, retry_after
from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.calls import ModelRequest
from tests.fakes import behaviours as fake
from tests.fakes.behaviours import Behaviour, Exchange, Received
from tests.fakes.provider import FakeProvider

from .calls import call, collect, failure, text_of, thought_of

DELTA = b"data: " + orjson.dumps(fake.chunk({"content": "x"})) + b"\n\n"
STOP = b"data: " + orjson.dumps(fake.chunk({}, "stop")) + b"\n\ndata: [DONE]\n\n"
THOUGHT = b"data: " + orjson.dumps(fake.chunk({"reasoning_content": "y"})) + b"\n\n"
ARGUMENTS = (
    b"data: "
    + orjson.dumps(
        fake.chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "z"}}]})
    )
    + b"\n\n"
)
LIMIT = 60_000


def limited(provider: FakeProvider, most: int = LIMIT) -> ModelRequest:
    request = call(provider.base_url)
    target = request.target
    bounded = replace(target.provider, max_answer_bytes=most)
    return replace(request, target=replace(target, provider=bounded))


def endless(pattern: bytes, first: bytes = DELTA) -> Behaviour:
    """Repeats the bytes of `pattern` for as long as they are read."""

    async def behave(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.piece(first)
        block = pattern * (256 * 1024 // len(pattern) + 1)
        while True:
            await exchange.piece(block)

    return behave


ENDLESS = [
    pytest.param(DELTA, id="deltas"),
    pytest.param(THOUGHT, id="reasoning"),
    pytest.param(ARGUMENTS, id="arguments of a tool call"),
    pytest.param(b"data: {}\n\n", id="empty objects"),
    pytest.param(b"data:\n\n", id="empty events"),
    pytest.param(b": keep-alive\n", id="comments"),
    pytest.param(b":\n\n", id="empty comments"),
    pytest.param(b"\n", id="line feeds"),
    pytest.param(b"\r", id="carriage returns"),
    pytest.param(b"\r\n", id="line ends"),
    pytest.param(b"event: x\n", id="names"),
    pytest.param(b"x", id="one line"),
    pytest.param(b"data: ", id="one event"),
    pytest.param(b"data:\n", id="empty lines of one event"),
    pytest.param(b"data: []\n\n", id="empty lists"),
    pytest.param(b"{}\n", id="lines of JSON"),
]


async def gone(request: Received) -> None:
    """Return when the provider saw that the caller closed the connection."""
    async with asyncio.timeout(20):
        await request.disconnected.wait()


@pytest.mark.parametrize("pattern", ENDLESS)
async def test_an_answer_without_an_end_is_cut_off_at_its_size(
    provider: FakeProvider, client: OpenAICompletions, pattern: bytes
) -> None:
    provider.will(endless(pattern))
    events, error = await failure(client, limited(provider))
    assert error.kind is FailureKind.BAD_RESPONSE
    assert "unusable answer" in error.message
    if pattern in (DELTA, THOUGHT, ARGUMENTS):
        assert f"is longer than {LIMIT} bytes (models.providers.acme.maxAnswer" in error.message
    # What was told before stays told.
    count = LIMIT // len(pattern)
    text, thought = text_of(events), thought_of(events)
    assert text.startswith("x") or error.message.endswith("is not a chat completion.")
    assert set(text) <= {"x"}
    assert len(text) - 1 in ((count - 1, count) if pattern == DELTA else (0, -1))
    assert not thought or pattern == THOUGHT
    await gone(await provider.arrival())


@pytest.mark.parametrize("pattern", ENDLESS)
async def test_others_get_their_turn_while_an_endless_answer_is_read(
    provider: FakeProvider, client: OpenAICompletions, pattern: bytes
) -> None:
    size, turns = 300_000, 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    provider.will(endless(pattern))
    witness = asyncio.create_task(other())
    _, error = await failure(client, limited(provider, size))
    witness.cancel()
    await asyncio.gather(witness, return_exceptions=True)
    if "longer than" in error.message:
        # A socket delivers up to 256 KiB at once.
        assert turns >= size // (16 * 1024)


@pytest.mark.parametrize("name", ["gzip", "br"])
async def test_a_compressed_answer_counts_as_it_is_unpacked(
    provider: FakeProvider, client: OpenAICompletions, name: str
) -> None:
    content = DELTA + b"\n" * 50_000_000
    packed = gzip.compress(content, 1) if name == "gzip" else brotli.compress(content, quality=1)
    del content
    assert len(packed) < 2_000_000

    async def behave(exchange: Exchange) -> None:
        await exchange.whole(200, packed, fake.EVENT_STREAM, {"Content-Encoding": name})

    provider.will(behave)
    events, error = await failure(client, limited(provider))
    assert (text_of(events), "longer than" in error.message) == ("x", True)


@pytest.mark.parametrize("first", [b"\n", b'{"choices": [], "x": "', b" "])
async def test_an_answer_in_one_piece_has_the_same_size(
    provider: FakeProvider, client: OpenAICompletions, first: bytes
) -> None:
    provider.will(endless(first[-1:] if first.isspace() else b"a", first))
    _, error = await failure(client, limited(provider))
    assert error.kind is FailureKind.BAD_RESPONSE
    assert "longer than" in error.message
    await gone(await provider.arrival())


async def test_what_follows_a_complete_answer_does_not_spoil_it(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    body = DELTA + STOP.removesuffix(b"data: [DONE]\n\n")
    provider.will(endless(b": more\n", body))
    assert text_of(await collect(client, limited(provider))) == "x"
    await gone(await provider.arrival())


@pytest.mark.parametrize("size", [len(DELTA + STOP), len(DELTA + STOP) + 1])
async def test_an_answer_of_exactly_the_size_is_whole(
    provider: FakeProvider, client: OpenAICompletions, size: int
) -> None:
    provider.will(fake.raw(DELTA, STOP))
    assert text_of(await collect(client, limited(provider, size))) == "x"


def calling(count: int, *, index: bool = True) -> bytes:
    calls = [
        {"index": n if index else 0, "id": f"c{n}", "function": {"name": "f", "arguments": ""}}
        for n in range(count)
    ]
    return b"data: " + orjson.dumps(fake.chunk({"tool_calls": calls})) + b"\n\n"


def choosing(count: int) -> bytes:
    choices = [{"index": n, "delta": {"content": "x"}} for n in range(count)]
    return b"data: " + orjson.dumps({"choices": choices}) + b"\n\n"


MANY = [
    pytest.param([calling(1_025)], "1024 tool calls", id="calls in a chunk"),
    pytest.param([calling(1_000), calling(1_000, index=False)], "1024 tool calls", id="calls"),
    pytest.param([choosing(129)], "128 choices", id="choices"),
    pytest.param([b"data: [" + b"{}," * 300_000 + b"{}]\n\n"], "too many JSON", id="objects"),
    pytest.param([b"data: " + b"[" * 500_000 + b"\n\n"], "too many JSON", id="nesting"),
    pytest.param([b'{"choices":[' + b"[]," * 300_000 + b"1]}"], "too many JSON", id="whole"),
    pytest.param([b"data:\n" * 100_001], "one event of its stream is too long", id="lines"),
]


@pytest.mark.parametrize(("pieces", "problem"), MANY)
async def test_an_answer_that_holds_too_many_of_something_is_refused(
    provider: FakeProvider, client: OpenAICompletions, pieces: list[bytes], problem: str
) -> None:
    provider.will(fake.raw(*pieces))
    _, error = await failure(client, call(provider.base_url))
    assert (error.kind, problem in error.message) == (FailureKind.BAD_RESPONSE, True), error.message


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([calling(1_024)], id="calls"),
        pytest.param([choosing(128)], id="choices"),
        pytest.param(
            [b"data: " + orjson.dumps(fake.chunk({"content": "x" * 7_000_000})) + b"\n\n"],
            id="text",
        ),
    ],
)
async def test_a_large_answer_is_read(
    provider: FakeProvider, client: OpenAICompletions, pieces: list[bytes]
) -> None:
    provider.will(fake.raw(*pieces, STOP))
    assert len(await collect(client, call(provider.base_url))) >= 2


@pytest.mark.parametrize("head", [b"200 OK", b"500 Error", b"302 Found"])
async def test_the_body_of_a_refusal_is_read_no_further_than_it_is_told(
    provider: FakeProvider, client: OpenAICompletions, head: bytes
) -> None:
    async def behave(exchange: Exchange) -> None:
        await exchange.head("text/plain", int(head[:3]))
        while True:
            await exchange.piece(b"no " * 100_000)

    provider.will(behave)
    _, error = await failure(client, limited(provider))
    assert isinstance(error, ModelFailed)
    assert len(error.message) + len(error.detail) < 3_000
    await gone(await provider.arrival())


def http(first: bytes, block: bytes) -> Behaviour:
    """Sends `first` instead of an answer, and then `block` for as long as it is read."""

    async def behave(exchange: Exchange) -> None:
        await exchange.raw(first)
        while True:
            await exchange.raw(block)

    return behave


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
AROUND = [
    pytest.param(http(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), "32 interim", id="hints"),
    pytest.param(http(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 9_000), "32 interim", id="continue"),
    pytest.param(http(b"", b"\r\n" * 10_000), "1024 kB", id="empty lines"),
    pytest.param(http(CHUNKED + b"1;", b"x" * 10_000), "chunk framing", id="extension"),
    pytest.param(http(CHUNKED, b"1\r\n\n\r\n" * 10_000), "longer than", id="chunks of a byte"),
    pytest.param(http(CHUNKED + b"0\r\n", b"X: y\r\n" * 1_000), "too many headers", id="trailers"),
    pytest.param(http(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100), "too many headers", id="headers"),
    pytest.param(http(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 9_999), "longer than 64", id="header"),
]


@pytest.mark.parametrize(("behaviour", "problem"), AROUND)
async def test_what_stands_around_a_body_is_bounded(
    provider: FakeProvider, client: OpenAICompletions, behaviour: Behaviour, problem: str
) -> None:
    provider.will(behaviour)
    _, error = await failure(client, limited(provider))
    assert (error.kind, problem in error.message) == (FailureKind.BAD_RESPONSE, True), error.message
    await gone(await provider.arrival())


async def test_a_few_interim_responses_are_read_over(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 32
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DELTA + STOP)
    provider.will(fake.raw_http(hints + head + DELTA + STOP))
    assert text_of(await collect(client, call(provider.base_url))) == "x"


async def test_what_comes_behind_an_answer_on_a_kept_connection_ends_it(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    asked = asyncio.Event()

    async def behave(exchange: Exchange) -> None:
        await fake.raw(DELTA, STOP)(exchange)
        await asked.wait()
        while True:
            await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 100)

    provider.will(behave, fake.answer("again"))
    assert text_of(await collect(client, call(provider.base_url))) == "x"
    asked.set()
    await gone(await provider.arrival())
    assert text_of(await collect(client, call(provider.base_url))) == "again"
    assert (await provider.arrival()).connection == 2


@pytest.mark.parametrize("said", ["1e300", "9" * 300, "Fri, 31 Dec 9999 23:59:59 GMT", "86401"])
def test_no_provider_is_left_alone_for_longer_than_a_day(said: str) -> None:
    assert retry_after({"retry-after": said}, 0.0) == 86_400
    assert advised_wait({"retry_after_ms": "1e300"}, "") == 86_400
    assert advised_wait({}, f"try again in {'9' * 300}h") == 86_400
