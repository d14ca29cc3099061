"""Over a real socket: an answer is complete when its finish reason came, however its body ends,
and is read by what it holds, whatever its label says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest

from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models.calls import ModelEvent, ModelFinished, StopReason, TextDelta, Usage
from tests.fakes import behaviours as fake
from tests.fakes.behaviours import USAGE, Behaviour, Exchange
from tests.fakes.provider import PATIENCE, FakeProvider

from .answers import DONE, event
from .calls import call, collect, failure, text_of

TEXT = event(fake.chunk({"content": "Hello"}))
STOP = event(fake.chunk({}, "stop"))
COUNTS = event({"choices": [], "usage": dict(USAGE)})
WHOLE = orjson.dumps(
    {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": dict(USAGE)}
)
COMPLETE = [TextDelta("Hello"), ModelFinished(StopReason.STOP)]
COUNTED = [TextDelta("Hello"), ModelFinished(StopReason.STOP, Usage(7, 3))]

Ending = Callable[[Exchange], Awaitable[None]]


async def cut(exchange: Exchange) -> None:
    exchange.abort()


async def reset(exchange: Exchange) -> None:
    exchange.reset()


async def silence(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def heartbeats(exchange: Exchange) -> None:
    while True:
        await exchange.piece(b": still here\n\n")
        await asyncio.sleep(0.01)


async def many_heartbeats(exchange: Exchange) -> None:
    while True:
        await exchange.piece(b": still here\n\n" * 1000)
        await asyncio.sleep(0)


def ending(*pieces: bytes, then: Ending, content_type: str = fake.EVENT_STREAM) -> Behaviour:
    """Send head and pieces at once, and then come to no proper end."""

    async def behave(exchange: Exchange) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        await exchange.raw(head.encode() + b"\r\n" + b"".join(chunks))
        await then(exchange)

    return behave


async def answered(provider: FakeProvider, end_timeout: float) -> list[ModelEvent]:
    """The events of a call, which must not take much longer than `end_timeout`."""
    client = OpenAICompletions(end_timeout=end_timeout)
    try:
        async with asyncio.timeout(PATIENCE):
            return await collect(client, call(provider.base_url, idle_timeout=PATIENCE * 2))
    finally:
        await client.close()


@pytest.mark.parametrize("then", [cut, reset, silence, heartbeats, many_heartbeats])
@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        pytest.param(b"", COMPLETE, id="nothing more"),
        pytest.param(COUNTS, COUNTED, id="usage"),
        pytest.param(COUNTS[:-20], COMPLETE, id="half the usage"),
    ],
)
async def test_an_answer_with_a_finish_reason_is_complete(
    provider: FakeProvider, then: Ending, rest: bytes, expected: list[ModelEvent]
) -> None:
    provider.will(ending(TEXT, STOP + rest, then=then))
    assert await answered(provider, 0.05) == expected
    async with asyncio.timeout(PATIENCE):
        await (await provider.arrival()).ended.wait()


@pytest.mark.parametrize("rest", [STOP + b"data: [DONE]\n", b"data: [DONE]\n"])
async def test_nothing_is_waited_for_behind_the_mark_of_the_end(
    provider: FakeProvider, rest: bytes
) -> None:
    provider.will(ending(TEXT + rest, then=silence))
    assert await answered(provider, 2 * PATIENCE) == COMPLETE


async def test_usage_and_the_mark_are_waited_for(provider: FakeProvider) -> None:
    provider.will(fake.raw(TEXT, STOP, b": ping\n\n", COUNTS, b": ping\n\n", DONE))
    assert await answered(provider, 2 * PATIENCE) == COUNTED


async def test_text_behind_the_finish_reason_is_waited_for_again(provider: FakeProvider) -> None:
    every = [event(fake.chunk({"content": text}, "stop")) for text in "abc"]
    provider.will(fake.raw(*every))
    assert text_of(await answered(provider, 2 * PATIENCE)) == "abc"


@pytest.mark.parametrize("then", [cut, reset])
async def test_without_a_finish_reason_all_text_is_passed_on_before_the_failure(
    provider: FakeProvider, client: OpenAICompletions, then: Ending
) -> None:
    provider.will(ending(TEXT, TEXT[:-2], then=then))
    events, failed = await failure(client, call(provider.base_url))
    assert text_of(events) == "HelloHello"
    assert failed.kind is FailureKind.BAD_RESPONSE
    assert "broke" in failed.message
    assert failed.__context__ is None


@pytest.mark.parametrize("then", [cut, reset, silence])
@pytest.mark.parametrize("content_type", ["application/json", fake.EVENT_STREAM])
async def test_a_whole_body_is_complete_when_its_json_is(
    provider: FakeProvider, then: Ending, content_type: str
) -> None:
    provider.will(ending(WHOLE[:30], WHOLE[30:], then=then, content_type=content_type))
    assert await answered(provider, 0.05) == COUNTED


async def test_half_a_body_that_looks_complete_is_waited_for(provider: FakeProvider) -> None:
    async def slowly(exchange: Exchange) -> None:
        await exchange.head("application/json")
        await exchange.piece(WHOLE[: WHOLE.index(b"}") + 1])
        await asyncio.sleep(0.1)  # The client's patience for an end is shorter.
        await exchange.piece(WHOLE[WHOLE.index(b"}") + 1 :])
        await exchange.end()

    provider.will(slowly)
    assert await answered(provider, 0.01) == COUNTED


async def test_lines_of_json_are_waited_for(provider: FakeProvider) -> None:
    async def slowly(exchange: Exchange) -> None:
        await exchange.head("application/x-ndjson")
        for part in (TEXT, TEXT, STOP):
            await exchange.piece(part[6:].strip() + b"\n")
            await asyncio.sleep(0.1)  # The client's patience for an end is shorter.
        await exchange.end()

    provider.will(slowly)
    assert text_of(await answered(provider, 0.01)) == "HelloHello"


@pytest.mark.parametrize("then", [cut, reset, silence])
@pytest.mark.parametrize("lines", [b"TEXT\nSTOP", b"TEXT\nSTOP\nCOUNTS\n"])
async def test_lines_of_json_are_complete_when_the_finish_reason_came(
    provider: FakeProvider, then: Ending, lines: bytes
) -> None:
    for name, part in ((b"TEXT", TEXT), (b"STOP", STOP), (b"COUNTS", COUNTS)):
        lines = lines.replace(name, part[6:].strip())
    provider.will(ending(lines, then=then, content_type="application/x-ndjson"))
    assert text_of(await answered(provider, 0.05)) == "Hello"


@pytest.mark.parametrize("then", [cut, reset, silence])
@pytest.mark.parametrize("end", [1, 2])
async def test_the_finish_reason_needs_no_line_end_behind_it(
    provider: FakeProvider, then: Ending, end: int
) -> None:
    provider.will(ending(TEXT, STOP[:-end], then=then))
    assert await answered(provider, 0.05) == COMPLETE


async def test_half_a_body_is_no_answer(provider: FakeProvider, client: OpenAICompletions) -> None:
    provider.will(ending(WHOLE[:-3], then=cut, content_type="application/json"))
    events, failed = await failure(client, call(provider.base_url))
    assert (events, failed.kind) == ([], FailureKind.BAD_RESPONSE)


async def test_a_body_of_any_length_is_read_within_bounds(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.raw(b"{" + b" " * 9 * 1024 * 1024))
    _, failed = await failure(client, call(provider.base_url))
    assert (failed.kind, "too long" in failed.message) == (FailureKind.BAD_RESPONSE, True)


TYPES = [
    *("text/event-stream", "application/json", "text/plain; charset=utf-8"),
    *("application/octet-stream", "text/html", "application/x-ndjson", "odd", ""),
]
MARK = b"\xef\xbb\xbf"
STREAM = TEXT + STOP + COUNTS + DONE
LINES = b"\n".join(part[6:].strip() for part in (TEXT, STOP, COUNTS))


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([STREAM], id="stream"),
        pytest.param([b": hi\n\n" + STREAM], id="stream with a comment"),
        pytest.param([b"event: message\n", STREAM], id="stream with names"),
        pytest.param([b"\n \r\n", MARK[:1], MARK[1:] + STREAM], id="stream behind a mark"),
        pytest.param([WHOLE], id="JSON"),
        pytest.param([b"\n", b"  \n", WHOLE], id="JSON behind blank lines"),
        pytest.param([MARK[:2], MARK[2:], WHOLE[:1], WHOLE[1:]], id="JSON behind a mark"),
        pytest.param([LINES], id="JSON lines"),
    ],
)
async def test_the_format_is_recognised_by_the_body(
    provider: FakeProvider, client: OpenAICompletions, content_type: str, pieces: list[bytes]
) -> None:
    provider.will(fake.raw(*pieces, content_type=content_type))
    assert await collect(client, call(provider.base_url)) == COUNTED


@pytest.mark.parametrize("status", [201, 202, 203, 206, 299])
@pytest.mark.parametrize("body", [STREAM, WHOLE])
async def test_each_status_of_success_is_one(
    provider: FakeProvider, client: OpenAICompletions, status: int, body: bytes
) -> None:
    provider.will(fake.raw(body, status=status))
    assert await collect(client, call(provider.base_url)) == COUNTED


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>Welcome</html>", "text/html"),
        (b" \n<?xml?>", "application/xml"),
        (b"Service is up.", "text/plain"),
        (b"", "text/odd"),
        (b" \n ", "text/odd"),
        (b'{"hello": 1}', "application/json"),
        (b'{"hello": ', "application/json"),
        (b'"hello"', "application/json"),
        (b": ping\n\n", "text/event-stream"),
        (b"data: {}\n\n", "text/event-stream"),
    ],
)
async def test_what_is_no_answer_is_reported_with_its_content_type(
    provider: FakeProvider, client: OpenAICompletions, body: bytes, content_type: str
) -> None:
    pieces = [body] if body else []
    provider.will(fake.raw(*pieces, content_type=content_type))
    _, failed = await failure(client, call(provider.base_url))
    assert failed.kind is FailureKind.BAD_RESPONSE
    assert f"content type: {content_type}" in failed.message


async def test_headers_advise_when_to_try_again_after_an_error_within_an_answer(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    async def limited(exchange: Exchange) -> None:
        body = b'{"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}'
        await exchange.whole(200, body, "application/json", {"Retry-After": "7"})

    provider.will(limited)
    _, failed = await failure(client, call(provider.base_url))
    assert (failed.kind, failed.retry_after) == (FailureKind.RATE_LIMIT, 7.0)


async def test_closing_the_client_ends_a_wait_for_the_end(provider: FakeProvider) -> None:
    provider.will(ending(TEXT, STOP, then=silence))
    client = OpenAICompletions(end_timeout=2 * PATIENCE)
    stream = client.stream(call(provider.base_url))
    events = list(await anext(stream))
    await client.close()
    try:
        async with asyncio.timeout(PATIENCE):
            events += [event async for several in stream for event in several]
    except ModelFailed:
        pytest.fail("the answer was complete")
    assert events == COMPLETE
