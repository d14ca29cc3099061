"""The events of answers of the Messages API, and their failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from opensoul.adapters.providers.anthropic import AnthropicMessages
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models import (
    ModelEvent,
    ModelFinished,
    ReasoningDelta,
    ReasoningSigned,
    StopReason,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from tests.fakes import anthropic, behaviours
from tests.fakes.anthropic import OUTPUT_TOKENS, error, message, refuse, streamed, strict
from tests.fakes.behaviours import Behaviour, Exchange
from tests.fakes.provider import FakeProvider

from .calls import KEY, call, collect, failure, text_of, thought_of

API = "anthropic-messages"
USAGE = Usage(127, OUTPUT_TOKENS, cached=100)


@pytest.fixture
async def client() -> AsyncIterator[AnthropicMessages]:
    client = AnthropicMessages()
    yield client
    await client.close()


async def answer(
    provider: FakeProvider, client: AnthropicMessages, behaviour: Behaviour
) -> list[ModelEvent]:
    provider.will(strict(behaviour))
    return await collect(client, call(provider.base_url, api=API, auth_header=False))


def joined(events: Sequence[ModelEvent]) -> dict[int, tuple[str | None, str | None, str]]:
    """The calls of an answer: id, name and arguments by index."""
    calls: dict[int, tuple[str | None, str | None, str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            call_id, name, arguments = calls.get(event.index, (None, None, ""))
            arguments += event.arguments
            calls[event.index] = (call_id or event.id, name or event.name, arguments)
    return calls


async def test_text_is_streamed_piece_by_piece(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    events = await answer(provider, client, message(anthropic.text("Hello there")))

    assert events == [
        TextDelta("Hello"),
        TextDelta(" there"),
        ModelFinished(StopReason.STOP, USAGE),
    ]


async def test_the_connection_is_used_again(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    for _ in range(3):
        await answer(provider, client, message(anthropic.text("Hello")))

    assert provider.connections == 1


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", StopReason.STOP),
        ("stop_sequence", StopReason.STOP),
        ("max_tokens", StopReason.LENGTH),
        ("model_context_window_exceeded", StopReason.LENGTH),
        ("refusal", StopReason.CONTENT_FILTER),
        ("pause_turn", StopReason.STOP),
        ("tool_use", StopReason.STOP),
        ("a_new_reason", StopReason.STOP),
    ],
)
async def test_the_reason_of_the_end_is_translated(
    provider: FakeProvider, client: AnthropicMessages, reason: str, stop: StopReason
) -> None:
    events = await answer(provider, client, message(anthropic.text("Hm"), stop=reason))

    assert events[-1] == ModelFinished(stop, USAGE)


async def test_an_answer_without_content_is_empty(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    """The API gives such answers behind results of tools."""
    assert await answer(provider, client, message()) == [ModelFinished(StopReason.STOP, USAGE)]


async def test_reasoning_comes_with_its_signature(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    redacted = {"type": "redacted_thinking", "data": "c2VjcmV0"}
    blocks = [anthropic.thought("Let me see"), redacted, anthropic.text("Yes")]
    events = await answer(provider, client, message(*blocks))

    assert events[:-1] == [
        ReasoningDelta("Let m"),
        ReasoningDelta("e see"),
        ReasoningSigned(anthropic.signature("Let me see")),
        ReasoningSigned("c2VjcmV0", redacted=True),
        TextDelta("Y"),
        TextDelta("es"),
    ]


async def test_calls_of_tools_are_streamed(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    blocks = [
        anthropic.text("I look."),
        anthropic.call("toolu_1", "look", {"place": "Ulm"}),
        anthropic.call("toolu_2", "now"),
    ]
    events = await answer(provider, client, message(*blocks))

    assert joined(events) == {
        0: ("toolu_1", "look", '{"place":"Ulm"}'),
        1: ("toolu_2", "now", "{}"),
    }
    assert text_of(events) == "I look."
    assert events[-1] == ModelFinished(StopReason.TOOL_CALLS, USAGE)


START = {"type": "message_start", "message": {"usage": {"input_tokens": 3}}}
STOP = {"type": "message_stop"}


def ended(reason: str = "end_turn", **usage: int) -> dict[str, Any]:
    delta = {"stop_reason": reason}
    return {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 2, **usage}}


def block(content: object, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(content: object, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": content}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [START, block({"type": "text", "text": "Hi"}), ended(), STOP],
            [TextDelta("Hi")],
            id="text in the start of its block",
        ),
        pytest.param(
            [START, delta({"type": "text_delta", "text": "Hi"}), ended(), STOP],
            [TextDelta("Hi")],
            id="a block without a start",
        ),
        pytest.param(
            [START, block({"type": "text"}), delta({"type": "text_delta", "text": "Hi"}), ended()],
            [TextDelta("Hi")],
            id="no message_stop",
        ),
        pytest.param(
            [delta({"type": "text_delta", "text": "Hi"}), ended(input_tokens=3), STOP],
            [TextDelta("Hi")],
            id="usage at the end only",
        ),
        pytest.param(
            [
                START,
                {"type": "a_new_event", "text": "?"},
                block({"type": "a_new_block"}),
                delta({"type": "a_new_delta", "text": "?"}),
                block({"type": "text", "text": "Hi"}, 1),
                ended(),
                STOP,
            ],
            [TextDelta("Hi")],
            id="unknown events, blocks and deltas",
        ),
        pytest.param(
            [START, block({"type": "thinking", "thinking": "Hm", "signature": "s"}), ended(), STOP],
            [ReasoningDelta("Hm"), ReasoningSigned("s")],
            id="reasoning in one piece",
        ),
        pytest.param(
            [
                START,
                block({"type": "thinking", "thinking": ""}),
                delta({"type": "signature_delta", "signature": "a"}),
                delta({"type": "signature_delta", "signature": "b"}),
                ended(),
                STOP,
            ],
            [ReasoningSigned("ab")],
            id="reasoning that is left out",
        ),
        pytest.param(
            [START, block(anthropic.call("a", "look", {"x": 1})), ended("tool_use"), STOP],
            [ToolCallDelta(0, "a", "look"), ToolCallDelta(0, arguments='{"x":1}')],
            id="a call in one piece",
        ),
        pytest.param(
            [
                START,
                block(anthropic.call("a", "look"), 3),
                block(anthropic.call("b", "go"), 5),
                delta({"type": "input_json_delta", "partial_json": '{"b":'}, 5),
                delta({"type": "input_json_delta", "partial_json": "{}"}, 3),
                delta({"type": "input_json_delta", "partial_json": "2}"}, 5),
                ended("tool_use"),
                STOP,
            ],
            [
                ToolCallDelta(0, "a", "look"),
                ToolCallDelta(1, "b", "go"),
                ToolCallDelta(1, arguments='{"b":'),
                ToolCallDelta(0, arguments="{}"),
                ToolCallDelta(1, arguments="2}"),
            ],
            id="interleaved calls",
        ),
        pytest.param(
            [
                START,
                block(anthropic.call("a", "look")),
                block(anthropic.call("b", "go", {"x": 1})),
                ended("tool_use"),
                STOP,
            ],
            [
                ToolCallDelta(0, "a", "look"),
                ToolCallDelta(0, arguments="{}"),
                ToolCallDelta(1, "b", "go"),
                ToolCallDelta(1, arguments='{"x":1}'),
            ],
            id="calls of one index",
        ),
    ],
)
async def test_other_shapes_are_read(
    provider: FakeProvider,
    client: AnthropicMessages,
    events: list[dict[str, Any]],
    expected: list[ModelEvent],
) -> None:
    found = await answer(provider, client, streamed(*events))

    calls = any(isinstance(event, ToolCallDelta) for event in expected)
    stop = StopReason.TOOL_CALLS if calls else StopReason.STOP
    assert found == [*expected, ModelFinished(stop, Usage(3, 2))]


async def test_a_surrogate_pair_in_two_pieces_is_joined(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    pieces = [
        b'data: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"' + half + b'"}}\n\n'
        for half in (rb"\ud83d", rb"\ude00", rb"\ud83d")
    ]
    end = [anthropic.encoded(ended()), anthropic.encoded(STOP)]
    events = await answer(provider, client, behaviours.raw(*pieces, *end))

    assert text_of(events) == "\U0001f600\ufffd"


@pytest.mark.parametrize("rest", [b"data: {%$&\n\n", b"data: {%$&", b"data: [DONE]\n\n"])
async def test_the_rest_behind_the_reason_of_the_end_does_not_matter(
    provider: FakeProvider, client: AnthropicMessages, rest: bytes
) -> None:
    events = [delta({"type": "text_delta", "text": "Hi"}), ended()]
    pieces = [*map(anthropic.encoded, events), rest]

    found = await answer(provider, client, behaviours.raw(*pieces))
    assert found == [TextDelta("Hi"), ModelFinished(StopReason.STOP, Usage(0, 2))]


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_a_message_that_is_not_streamed_is_read(
    provider: FakeProvider, client: AnthropicMessages, content_type: str
) -> None:
    document = {
        "type": "message",
        "role": "assistant",
        "content": [
            anthropic.thought("Hm"),
            anthropic.text("Hello"),
            anthropic.call("a", "look", {"x": 1}),
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    body = orjson.dumps(document)
    events = await answer(provider, client, behaviours.raw(body, content_type=content_type))

    assert (thought_of(events), text_of(events)) == ("Hm", "Hello")
    assert joined(events) == {0: ("a", "look", '{"x":1}')}
    assert events[-1] == ModelFinished(StopReason.TOOL_CALLS, Usage(3, 2))


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("invalid_request_error", 400, FailureKind.BAD_REQUEST),
        ("authentication_error", 401, FailureKind.AUTH),
        ("billing_error", 402, FailureKind.BILLING),
        ("permission_error", 403, FailureKind.AUTH),
        ("request_too_large", 413, FailureKind.CONTEXT_TOO_LONG),
        ("rate_limit_error", 429, FailureKind.RATE_LIMIT),
        ("api_error", 500, FailureKind.OVERLOADED),
        ("timeout_error", 504, FailureKind.TIMEOUT),
        ("overloaded_error", 529, FailureKind.OVERLOADED),
    ],
)
async def test_failures_have_kinds(
    provider: FakeProvider,
    client: AnthropicMessages,
    kind: str,
    status: int,
    expected: FailureKind,
) -> None:
    """The same as a status, and as an event of a stream, which has no status of its own."""
    words = f"something about {KEY}"
    provider.will(refuse(kind, words, status, {"retry-after": "7"}))
    events, by_status = await failure(client, call(provider.base_url, api=API))
    assert (events, by_status.kind, by_status.status) == ([], expected, status)
    assert by_status.retry_after == 7.0

    begun = anthropic.events(anthropic.text("Hello"))[:4]
    provider.will(streamed(*begun, error(kind, words)))
    events, in_stream = await failure(client, call(provider.base_url, api=API))
    assert (text_of(events), in_stream.kind) == ("He", expected)

    for error_ in (by_status, in_stream):
        assert KEY not in error_.message + error_.detail + error_.reason


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        ("prompt is too long: 208310 tokens > 200000 maximum", 400, FailureKind.CONTEXT_TOO_LONG),
        (
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            400,
            FailureKind.CONTEXT_TOO_LONG,
        ),
        (
            "Your credit balance is too low to access the Anthropic API.",
            400,
            FailureKind.BILLING,
        ),
        ("model: claude-none", 404, FailureKind.BAD_RESPONSE),
    ],
)
async def test_the_words_of_a_failure_count(
    provider: FakeProvider,
    client: AnthropicMessages,
    words: str,
    status: int,
    expected: FailureKind,
) -> None:
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    provider.will(refuse(kind, words, status))
    _, error_ = await failure(client, call(provider.base_url, api=API))

    assert error_.kind is expected


async def test_an_error_before_any_content_is_raised_at_once(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    provider.will(streamed(START, error("overloaded_error", "Overloaded")))
    events, error_ = await failure(client, call(provider.base_url, api=API))

    assert (events, error_.kind) == ([], FailureKind.OVERLOADED)


BEGUN = [anthropic.encoded(event) for event in anthropic.events(anthropic.text("Hello"))[:4]]


@pytest.mark.parametrize(
    ("behaviour", "text", "kind", "words"),
    [
        pytest.param(
            behaviours.raw(*BEGUN), "He", FailureKind.BAD_RESPONSE, "ended before", id="cut off"
        ),
        pytest.param(
            behaviours.raw(*BEGUN, b'event: content_block_delta\ndata: {"type":"content_bl'),
            "He",
            FailureKind.BAD_RESPONSE,
            "ended before",
            id="cut off in an event",
        ),
        pytest.param(
            behaviours.raw(*BEGUN, b"data: {%$&\n\n"),
            "He",
            FailureKind.BAD_RESPONSE,
            "not a message",
            id="garbage",
        ),
        pytest.param(
            behaviours.raw(b"data: [DONE]\n\n"),
            "",
            FailureKind.BAD_RESPONSE,
            "without any content",
            id="nothing",
        ),
        pytest.param(behaviours.raw(), "", FailureKind.BAD_RESPONSE, "empty", id="no body"),
        pytest.param(
            behaviours.html(), "", FailureKind.BAD_RESPONSE, "not a message", id="a web page"
        ),
        pytest.param(
            behaviours.raw(b'{"type": "message", "content": "Hi"}'),
            "",
            FailureKind.BAD_RESPONSE,
            "not a message",
            id="another document",
        ),
        pytest.param(
            streamed(START, block({"type": "a_new_block"}), ended(), STOP),
            "",
            FailureKind.BAD_RESPONSE,
            "a_new_block",
            id="only unknown content",
        ),
        pytest.param(
            streamed(*(block({"type": "text"}, n) for n in range(1_025))),
            "",
            FailureKind.BAD_RESPONSE,
            "1024 content blocks",
            id="too many blocks",
        ),
        pytest.param(
            behaviours.raw(*[b"x" * 100_000] * 90),
            "",
            FailureKind.BAD_RESPONSE,
            "too long",
            id="an endless event",
        ),
        pytest.param(
            behaviours.fail(404, "not here"),
            "",
            FailureKind.BAD_RESPONSE,
            "no Anthropic Messages API at",
            id="another address",
        ),
    ],
)
async def test_broken_answers_are_reported(
    provider: FakeProvider,
    client: AnthropicMessages,
    behaviour: Behaviour,
    text: str,
    kind: FailureKind,
    words: str,
) -> None:
    provider.will(behaviour)
    events, error_ = await failure(client, call(provider.base_url, api=API))

    assert (text_of(events), error_.kind) == (text, kind)
    assert words in error_.message
    assert error_.__context__ is None


async def test_a_connection_that_breaks_ends_the_call(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    received = asyncio.Event()

    async def broken(exchange: Exchange) -> None:
        await exchange.head()
        for event in BEGUN:
            await exchange.piece(event)
        await received.wait()
        exchange.abort()

    async def read() -> None:
        async for batch in client.stream(call(provider.base_url, api=API)):
            events.extend(batch)
            received.set()

    provider.will(broken)
    events: list[ModelEvent] = []
    with pytest.raises(ModelFailed, match="broke within the answer"):
        await read()
    assert text_of(events) == "He"


async def test_silence_is_a_timeout(provider: FakeProvider, client: AnthropicMessages) -> None:
    provider.will(behaviours.hang())
    request = call(provider.base_url, api=API, idle_timeout=0.05)
    _, error_ = await failure(client, request)

    assert error_.kind is FailureKind.TIMEOUT


async def test_an_answer_longer_than_its_bound_fails(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    provider.will(message(anthropic.text("x" * 5_000)))
    request = call(provider.base_url, api=API, max_answer_bytes=2_000)
    _, error_ = await failure(client, request)

    assert "models.providers.acme.maxAnswerBytes" in error_.message


async def test_closing_the_stream_closes_the_connection(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    async def unfinished(exchange: Exchange) -> None:
        await exchange.head()
        for event in BEGUN:
            await exchange.piece(event)
        await asyncio.Event().wait()

    provider.will(unfinished)
    stream = client.stream(call(provider.base_url, api=API))
    assert text_of(list(await anext(stream))) == "He"
    await stream.aclose()

    async with asyncio.timeout(5):
        await provider.requests[0].disconnected.wait()


async def test_cancelling_the_reader_closes_the_connection(
    provider: FakeProvider, client: AnthropicMessages
) -> None:
    provider.will(behaviours.hang())
    reading = asyncio.create_task(collect(client, call(provider.base_url, api=API)))
    request = await provider.arrival()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    async with asyncio.timeout(5):
        await request.disconnected.wait()
