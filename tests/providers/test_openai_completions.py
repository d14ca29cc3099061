"""Over a real socket: every way in which a provider answers, or fails to."""

from __future__ import annotations

import asyncio
import socket

import orjson
import pytest

from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import ModelFinished, StopReason, TextDelta, ToolCallDelta, Usage
from tests.fakes import behaviours as fake
from tests.fakes.behaviours import Behaviour, Exchange
from tests.fakes.provider import FakeProvider

from .calls import KEY, call, collect, failure, text_of, thought_of

FINISHED = ModelFinished(StopReason.STOP, Usage(7, 3))


async def test_an_answer_is_streamed(provider: FakeProvider, client: OpenAICompletions) -> None:
    provider.will(fake.answer("Hel", "lo ", "wörld 🐙", reasoning=["hm", "m"]))
    events = await collect(client, call(provider.base_url))
    assert text_of(events) == "Hello wörld 🐙"
    assert thought_of(events) == "hmm"
    assert events[-1] == FINISHED
    assert sum(isinstance(event, ModelFinished) for event in events) == 1


async def test_a_slow_answer_is_no_silence(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.slow("a", "b", "c", delay=0.01))
    assert text_of(await collect(client, call(provider.base_url, idle_timeout=3.0))) == "abc"


async def test_tool_calls_are_streamed(provider: FakeProvider, client: OpenAICompletions) -> None:
    piece = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    provider.will(fake.answer(tool_calls=[piece], finish_reason="tool_calls", usage=None))
    assert await collect(client, call(provider.base_url)) == [
        ToolCallDelta(0, "c", "f"),
        ModelFinished(StopReason.TOOL_CALLS),
    ]


async def test_an_answer_without_done_is_complete(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.no_done("a", "b"))
    events = await collect(client, call(provider.base_url))
    assert text_of(events) == "ab"
    assert events[-1] == FINISHED


async def test_done_without_a_finish_reason_is_complete(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.no_finish("a", done=True))
    assert (await collect(client, call(provider.base_url)))[-1] == ModelFinished(StopReason.STOP)


async def test_a_provider_that_does_not_stream_is_understood(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.json_instead_of_sse("Hello"))
    events = await collect(client, call(provider.base_url))
    assert text_of(events) == "Hello"
    assert events[-1] == FINISHED


async def test_bytes_in_any_packets_are_understood(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    stream = orjson.dumps(fake.chunk({"content": "ünï 🐙"}, "stop"))
    whole = b": ping\r\n\r\ndata:" + stream + b"\r\n\r\ndata: [DONE]"
    provider.will(fake.raw(*(whole[i : i + 1] for i in range(len(whole)))))
    assert text_of(await collect(client, call(provider.base_url))) == "ünï 🐙"


async def test_an_answer_without_a_content_type_is_read_as_a_stream(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    stream = b"data: " + orjson.dumps(fake.chunk({"content": "a"}, "stop"))
    provider.will(fake.raw_http(b"HTTP/1.0 200 OK\r\n\r\n" + stream))
    assert text_of(await collect(client, call(provider.base_url))) == "a"


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        pytest.param(fake.cut("a", "b"), "ab", id="reset after text"),
        pytest.param(fake.cut("a", politely=True), "a", id="closed after text"),
        pytest.param(fake.cut(), "", id="reset before text"),
        pytest.param(fake.no_finish("a"), "a", id="clean end without a finish reason"),
        pytest.param(fake.no_finish(done=True), "", id="done without anything"),
        pytest.param(fake.garbage("a"), "a", id="garbage after text"),
        pytest.param(fake.garbage(), "", id="garbage"),
        pytest.param(fake.html(), "", id="a web page"),
        pytest.param(fake.html(418), "", id="a web page with a strange status"),
        pytest.param(fake.raw_http(b"SSH-2.0-x\r\n\r\n"), "", id="another protocol"),
        pytest.param(
            fake.raw_http(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
            ),
            "",
            id="broken framing",
        ),
        pytest.param(fake.json_instead_of_sse({"hello": 1}), "", id="other JSON"),
        pytest.param(fake.json_instead_of_sse([]), "", id="a list"),
        pytest.param(
            fake.raw(b"x" * (9 * 1024 * 1024), content_type="application/json"), "", id="too long"
        ),
        pytest.param(
            fake.fail(307, headers={"Location": "http://127.0.0.1:9/"}), "", id="a redirect"
        ),
        pytest.param(fake.fail(204, b""), "", id="no content"),
    ],
)
async def test_what_is_no_answer_is_never_a_success(
    provider: FakeProvider, client: OpenAICompletions, behaviour: Behaviour, text: str
) -> None:
    provider.will(behaviour)
    events, error = await failure(client, call(provider.base_url))
    assert error.kind is FailureKind.BAD_RESPONSE
    assert text.startswith(text_of(events))
    assert not any(isinstance(event, ModelFinished) for event in events)
    assert len(provider.requests) == 1
    assert error.__context__ is None


async def test_events_that_came_together_are_told_together_and_none_is_merged(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    async def burst(exchange: Exchange) -> None:
        await exchange.head()
        chunks = [fake.chunk({"content": text}) for text in ("a", "a", "b")]
        await exchange.piece(b"".join(b"data: " + orjson.dumps(c) + b"\n\n" for c in chunks))
        await heard.wait()
        chunks = [fake.chunk({"content": "c"}), fake.chunk({}, "stop")]
        await exchange.piece(b"".join(b"data: " + orjson.dumps(c) + b"\n\n" for c in chunks))
        await exchange.piece(b"data: [DONE]\n\n")
        await exchange.end()

    heard = asyncio.Event()
    provider.will(burst)
    stream = client.stream(call(provider.base_url))
    assert list(await anext(stream)) == [TextDelta("a"), TextDelta("a"), TextDelta("b")]
    heard.set()
    rest = [event async for told in stream for event in told]
    assert rest == [TextDelta("c"), ModelFinished(StopReason.STOP)]


async def test_what_came_before_an_error_in_the_same_piece_is_told(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    async def burst(exchange: Exchange) -> None:
        await exchange.head()
        said = b"data: " + orjson.dumps(fake.chunk({"content": "a"})) + b"\n\n"
        await exchange.piece(said + b'data: {"error": {"message": "slow", "code": 429}}\n\n')
        await exchange.end()

    provider.will(burst)
    events, error = await failure(client, call(provider.base_url))
    assert events == [TextDelta("a")]
    assert error.kind is FailureKind.RATE_LIMIT
    assert error.__context__ is None


@pytest.mark.parametrize("politely", [True, False])
async def test_what_was_said_before_a_cut_is_told(
    provider: FakeProvider, client: OpenAICompletions, politely: bool
) -> None:
    heard = asyncio.Event()
    provider.will(fake.cut("a", politely=politely, gate=heard))
    stream = client.stream(call(provider.base_url))
    assert list(await anext(stream)) == [TextDelta("a")]
    heard.set()
    with pytest.raises(ModelFailed) as caught:
        await anext(stream)
    assert caught.value.kind is FailureKind.BAD_RESPONSE


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "code": 429}, FailureKind.RATE_LIMIT),
        ({"message": "busy", "type": "overloaded_error"}, FailureKind.OVERLOADED),
        ({"message": "?", "type": "odd"}, FailureKind.BAD_RESPONSE),
        ("it broke", FailureKind.BAD_RESPONSE),
    ],
)
async def test_an_error_within_the_stream_is_a_failure(
    provider: FakeProvider, client: OpenAICompletions, error: object, kind: FailureKind
) -> None:
    provider.will(fake.error_in_stream("a", error=error))
    events, failed = await failure(client, call(provider.base_url))
    assert text_of(events) == "a"
    assert failed.kind is kind


async def test_an_error_with_status_200_is_a_failure(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.json_instead_of_sse({"error": {"message": "no", "code": 503}}))
    _, error = await failure(client, call(provider.base_url))
    assert (error.kind, error.status) == (FailureKind.OVERLOADED, 503)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.BAD_REQUEST),
        (401, FailureKind.AUTH),
        (402, FailureKind.BILLING),
        (404, FailureKind.BAD_RESPONSE),
        (429, FailureKind.RATE_LIMIT),
        (500, FailureKind.OVERLOADED),
        (503, FailureKind.OVERLOADED),
        (504, FailureKind.TIMEOUT),
    ],
)
async def test_a_status_is_a_kind_of_failure(
    provider: FakeProvider, client: OpenAICompletions, status: int, kind: FailureKind
) -> None:
    provider.will(fake.fail(status, headers={"Retry-After": "7"}))
    events, error = await failure(client, call(provider.base_url))
    assert (error.kind, error.status, error.retry_after) == (kind, status, 7.0)
    assert events == []
    assert "acme/tiny" in error.message
    assert len(provider.requests) == 1


async def test_a_refusal_whose_body_breaks_is_still_told(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    head = b"HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\n{"
    provider.will(fake.raw_http(head))
    _, error = await failure(client, call(provider.base_url))
    assert (error.kind, error.status) == (FailureKind.OVERLOADED, 503)


async def test_a_refusal_of_any_length_is_read_within_bounds(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.fail(400, b"x" * 10_000_000))
    _, error = await failure(client, call(provider.base_url))
    assert error.kind is FailureKind.BAD_REQUEST
    assert len(error.message) < 1000
    assert len(error.detail) < 1000


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        client = OpenAICompletions()
        _, error = await failure(client, call(f"http://127.0.0.1:{port}/v1"))
        await client.close()
    assert error.kind is FailureKind.UNREACHABLE
    assert KEY not in repr(error) + error.detail


@pytest.mark.slow
async def test_a_provider_without_tls_is_unreachable_by_https(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    _, error = await failure(client, call(provider.base_url.replace("http", "https")))
    assert error.kind is FailureKind.UNREACHABLE


async def test_a_connection_closed_without_an_answer_is_unreachable(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.raw_http(b""))
    _, error = await failure(client, call(provider.base_url))
    assert error.kind is FailureKind.UNREACHABLE


async def test_redirects_are_not_followed(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    async with FakeProvider() as other:
        provider.will(fake.fail(308, b"", {"Location": other.base_url}))
        _, error = await failure(client, call(provider.base_url))
        assert "redirect" in error.message
        assert other.base_url in error.detail
        assert other.requests == []


async def test_cookies_are_not_kept(provider: FakeProvider, client: OpenAICompletions) -> None:
    provider.will(fake.fail(503, headers={"Set-Cookie": "who=me"}))
    await failure(client, call(provider.base_url))
    await collect(client, call(provider.base_url))
    assert "cookie" not in provider.requests[1].headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
async def test_secrets_never_show(
    provider: FakeProvider, client: OpenAICompletions, status: int
) -> None:
    headers = {"X-Token": 'quo"ted-secret', "Proxy-Authorization": "Basic c2VjcmV0cw=="}
    said = f"Wrong key {KEY}, token quo\"ted-secret or 'c2VjcmV0cw=='; address-secret"
    base_url = f"{provider.base_url}?key=address-secret"
    provider.will(
        fake.fail(status, {"error": {"message": said, "param": KEY, "code": KEY}}),
        fake.error_in_stream(error={"message": said, "code": status}),
        fake.fail(status, said),
        fake.raw(f"data: {said}\n\n".encode()),
    )
    for _ in range(4):
        _, error = await failure(client, call(base_url, headers=headers))
        shown = repr(error) + str(error) + error.message + error.detail + str(error.param)
        for secret in (KEY, "quo", "c2VjcmV0cw", "address-secret"):
            assert secret not in shown
        assert error.__cause__ is None
        assert error.__context__ is None


@pytest.mark.parametrize(
    ("key", "said", "shown"),
    [
        ("x", "The text exceeds x.", "The text exceeds x."),
        ("abc", "abc is no letter of abcd.", "abc is no letter of abcd."),
        ("none", "none of nonempty: 'none'", "*** of nonempty: '***'"),
        ("hunter2", "Key=hunter2, hunter22", "Key=***, hunter22"),
        ("p.$+w", "p.$+w,xp.$+w", "***,xp.$+w"),
        ("sk-12345", "asked with xsk-12345x", "asked with x***x"),
    ],
)
async def test_a_short_secret_is_masked_as_a_word_only(
    provider: FakeProvider, client: OpenAICompletions, key: str, said: str, shown: str
) -> None:
    provider.will(fake.fail(400, {"error": {"message": said}}))
    _, error = await failure(client, call(provider.base_url, key=key))

    assert error.message.endswith(f": {shown}")


@pytest.mark.parametrize("value", ["on", "1"])
async def test_a_short_value_in_the_address_is_not_masked(
    provider: FakeProvider, client: OpenAICompletions, value: str
) -> None:
    provider.will(fake.fail(400, {"error": {"message": f"No connection {value} line 1"}}))
    _, error = await failure(client, call(f"{provider.base_url}?beta={value}"))

    assert error.message.endswith(f": No connection {value} line 1")


async def test_a_long_conversation_is_sent_whole(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    text = "wörds " * 300_000
    await collect(client, call(provider.base_url, text_message(Role.USER, text)))
    assert (await provider.arrival()).json["messages"][0]["content"] == text


async def test_nothing_is_sent_before_the_first_event_is_asked_for(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    stream = client.stream(call(provider.base_url))
    await stream.aclose()
    assert provider.connections == 0


async def test_a_closed_client_calls_nobody(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    await client.close()
    await client.close()
    with pytest.raises(ModelFailed):
        await collect(client, call(provider.base_url))
    assert provider.connections == 0
