"""Connections are used again after an answer, and closed at once when a call is given up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from opensoul.adapters.providers.openai.client import OpenAICompletions
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.messages import Role, text_message
from opensoul.domain.models.calls import ModelEvent, ModelFinished, ModelRequest, TextDelta
from tests.fakes import behaviours as fake
from tests.fakes.behaviours import Behaviour, Exchange
from tests.fakes.provider import FakeProvider

from .calls import call, collect, failure, text_of

LONG = text_message(Role.USER, "word " * 4_000_000)
"""More than the buffers of a connection hold."""
AT_ONCE = 1.0
"""Seconds within which a provider must see that its caller has gone."""


async def within(event: asyncio.Event) -> None:
    async with asyncio.timeout(AT_ONCE):
        await event.wait()


@asynccontextmanager
async def calling(
    client: OpenAICompletions, request: ModelRequest
) -> AsyncIterator[asyncio.Task[list[ModelEvent]]]:
    """A call in a task of its own, which is over at the end of the block."""
    task = asyncio.create_task(collect(client, request))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stuck_refusal() -> Behaviour:
    """A status, and a body that does not come to its end."""

    async def behave(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\n{")
        await asyncio.Event().wait()

    return behave


def json_that_hangs() -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.head("application/json")
        await exchange.piece(b"{")
        await asyncio.Event().wait()

    return behave


async def test_calls_one_after_another_share_a_connection(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(
        fake.answer("a"),
        fake.no_done("b"),
        fake.json_instead_of_sse("c"),
        fake.fail(503),
        fake.fail(400, "no"),
    )
    for _ in range(3):
        await collect(client, call(provider.base_url))
    for _ in range(2):
        await failure(client, call(provider.base_url))
    await collect(client, call(provider.base_url))
    assert [request.connection for request in provider.requests] == [1] * 6


async def test_a_reader_that_stops_at_the_last_event_gives_the_connection_back(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    for _ in range(2):
        async with aclosing(client.stream(call(provider.base_url))) as stream:
            async for told in stream:
                if isinstance(told[-1], ModelFinished):
                    break
    assert provider.connections == 1


async def vanish(exchange: Exchange) -> None:
    exchange.abort()


async def test_a_kept_connection_that_is_closed_when_used_again_costs_no_call(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.answer("first"), vanish, fake.answer("second"))

    assert text_of(await collect(client, call(provider.base_url))) == "first"
    assert text_of(await collect(client, call(provider.base_url))) == "second"

    assert [request.connection for request in provider.requests] == [1, 1, 2]


async def test_a_new_connection_that_is_closed_unanswered_is_a_failure_at_once(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(vanish)

    _, failed = await failure(client, call(provider.base_url))

    assert failed.kind is FailureKind.UNREACHABLE
    assert len(provider.requests) == 1


async def test_a_call_is_sent_again_only_once(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.answer("first"), vanish, vanish)
    await collect(client, call(provider.base_url))

    _, failed = await failure(client, call(provider.base_url))

    assert failed.kind is FailureKind.UNREACHABLE
    assert len(provider.requests) == 3


async def test_a_body_that_does_not_end_behind_done_costs_only_its_connection(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    async def lingers(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(fake.chunk({"content": "a"}, "stop"))
        await exchange.piece(b"data: [DONE]\n\n")
        await asyncio.Event().wait()

    provider.will(lingers)
    assert text_of(await collect(client, call(provider.base_url))) == "a"
    await within((await provider.arrival()).disconnected)
    await collect(client, call(provider.base_url))
    assert provider.connections == 2


async def test_what_comes_behind_done_is_passed_over(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    finished = asyncio.Event()

    async def adds_a_comment(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(fake.chunk({}, "stop"))
        await exchange.piece(b"data: [DONE]\n\n")
        await finished.wait()
        await exchange.piece(b": bye\n\n")
        await exchange.end()

    provider.will(adds_a_comment)
    async for told in client.stream(call(provider.base_url)):
        (event,) = told
        assert isinstance(event, ModelFinished)
        finished.set()
    await collect(client, call(provider.base_url))
    assert provider.connections == 1


async def test_calls_at_the_same_time_do_not_wait_for_one_another(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    gate = asyncio.Event()
    provider.default = fake.answer("a", "b", gate=gate)
    tasks = [asyncio.create_task(collect(client, call(provider.base_url))) for _ in range(150)]
    for _ in tasks:
        await within((await provider.arrival()).started)
    gate.set()
    assert {text_of(await task) for task in tasks} == {"ab"}


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(fake.hang(), id="before the headers"),
        pytest.param(fake.hang_after(), id="before the first token"),
        pytest.param(stuck_refusal(), id="within a refusal"),
        pytest.param(json_that_hangs(), id="within an answer that is not streamed"),
    ],
)
async def test_cancelling_who_reads_closes_the_connection(
    provider: FakeProvider, client: OpenAICompletions, behaviour: Behaviour
) -> None:
    provider.will(behaviour)
    async with calling(client, call(provider.base_url)) as task:
        request = await provider.arrival()
        await asyncio.sleep(0.05)  # Nothing tells that the headers have reached the client.
        task.cancel()
        await within(request.disconnected)
        with pytest.raises(asyncio.CancelledError):
            await task
    await collect(client, call(provider.base_url))


async def test_cancelling_within_the_stream_closes_the_connection(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.hang_after("a"))
    stream = client.stream(call(provider.base_url))
    assert list(await anext(stream)) == [TextDelta("a")]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    await within((await provider.arrival()).disconnected)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_closing_the_stream_closes_the_connection(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.answer("a", "b", gate=asyncio.Event()))
    stream = client.stream(call(provider.base_url))
    assert list(await anext(stream)) == [TextDelta("a")]
    await stream.aclose()
    await within((await provider.arrival()).disconnected)


async def test_closing_the_stream_leaves_the_rest_of_a_long_answer_unread(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.answer(*["word " * 1000] * 10_000))
    stream = client.stream(call(provider.base_url))
    await anext(stream)
    request = await provider.arrival()
    await stream.aclose()
    await within(request.disconnected)


async def test_cancelling_while_the_request_is_sent_gives_up(client: OpenAICompletions) -> None:
    async with deaf_listener() as (base_url, accepted):
        async with calling(client, call(base_url, LONG)) as task:
            await within(accepted)
            task.cancel()
            async with asyncio.timeout(AT_ONCE):
                await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_cancelling_while_connecting_gives_up(client: OpenAICompletions) -> None:
    async with full_listener() as base_url, calling(client, call(base_url)) as task:
        async with asyncio.timeout(AT_ONCE):
            await asyncio.sleep(0.05)  # Nothing tells that a connection is being tried.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_a_provider_that_does_not_accept_is_unreachable(client: OpenAICompletions) -> None:
    async with full_listener() as base_url:
        _, error = await failure(client, call(base_url, connect_timeout=0.1))
    assert error.kind is FailureKind.UNREACHABLE


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [(fake.hang(), ""), (fake.hang_after("a"), "a"), (json_that_hangs(), "")],
)
async def test_a_silent_provider_has_timed_out(
    provider: FakeProvider, client: OpenAICompletions, behaviour: Behaviour, text: str
) -> None:
    provider.will(behaviour)
    events, error = await failure(client, call(provider.base_url, idle_timeout=0.1))
    assert error.kind is FailureKind.TIMEOUT
    assert text_of(events) == text
    await within((await provider.arrival()).disconnected)


async def test_a_provider_that_answers_byte_by_byte_has_timed_out(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    async def drips(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            await exchange.raw(b"x")
            await asyncio.sleep(0.02)

    provider.will(drips)
    slow = call(provider.base_url, connect_timeout=0.1, idle_timeout=0.1)
    _, error = await failure(client, slow)
    assert error.kind is FailureKind.TIMEOUT


async def test_a_provider_that_does_not_read_has_timed_out(client: OpenAICompletions) -> None:
    async with deaf_listener() as (base_url, _):
        request = call(base_url, LONG, connect_timeout=0.1, idle_timeout=0.1)
        _, error = await failure(client, request)
    assert error.kind is FailureKind.TIMEOUT


async def test_closing_the_client_ends_a_call_that_waits(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.hang())
    async with calling(client, call(provider.base_url)) as task:
        request = await provider.arrival()
        await client.close()
        await within(request.disconnected)
        async with asyncio.timeout(AT_ONCE):
            with pytest.raises(ModelFailed):
                await task


async def test_closing_the_client_ends_a_stream(
    provider: FakeProvider, client: OpenAICompletions
) -> None:
    provider.will(fake.hang_after("a"))
    stream = client.stream(call(provider.base_url))
    assert list(await anext(stream)) == [TextDelta("a")]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await client.close()
    await within((await provider.arrival()).disconnected)
    async with asyncio.timeout(AT_ONCE):
        with pytest.raises(ModelFailed):
            await waiting


@asynccontextmanager
async def full_listener() -> AsyncIterator[str]:
    """A port whose queue of connections is full, so that the next attempt gets no answer."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@asynccontextmanager
async def deaf_listener() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A provider that accepts a connection, which the event tells, and does not read from it."""
    accepted = asyncio.Event()
    connections: list[asyncio.StreamWriter] = []

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        accepted.set()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0, limit=1024)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", accepted
    server.close()
    for connection in connections:
        connection.transport.abort()
    await server.wait_closed()
