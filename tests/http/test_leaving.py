"""A client that leaves, at any stage, stops its run: the model's stream ends, the lane is free."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from opensoul.domain.models.calls import ModelFinished, StopReason, TextDelta, Usage
from opensoul.domain.runs.events import Aborted, Finished

from .app import TOKEN, Harness
from .client import CHAT, HI, Bare, Client, bare
from .conftest import AccessLog

pytestmark = pytest.mark.both_loops

STOP = ModelFinished(StopReason.STOP, Usage(1, 1))
LEFT = Aborted("The client left.")
PROMPTLY = 1.0
"""Seconds within which a run must have ended after its client left."""


Leave = Callable[[Bare], None]


def break_off(wire: Bare) -> None:
    wire.leave()


def close(wire: Bare) -> None:
    wire.writer.close()


@asynccontextmanager
async def promptly() -> AsyncIterator[None]:
    async with asyncio.timeout(PROMPTLY):
        yield


async def assert_all_is_free(gateway: Harness) -> None:
    async with promptly():
        await gateway.model.closed.wait()
    assert (gateway.lanes.working, gateway.lanes.waiting) == (0, 0)
    assert len(gateway.queue) == 0


@pytest.mark.parametrize("leave", [break_off, close])
@pytest.mark.parametrize("stream", [True, False])
async def test_before_the_first_byte(
    gateway: Harness, access_log: AccessLog, stream: bool, leave: Leave
) -> None:
    gateway.model.script = (asyncio.Event(),)
    async with bare(gateway.port) as wire:
        wire.send_chat(stream=stream)
        await gateway.model.called.wait()

        leave(wire)

        async with promptly():
            assert await gateway.run_log.end_of() == LEFT
            line = await access_log.line()
    assert line["outcome"] == "client_left"
    assert "status" not in line
    assert line["run"] == gateway.run_log.runs[0]
    await assert_all_is_free(gateway)


@pytest.mark.parametrize("leave", [break_off, close])
async def test_in_mid_stream(gateway: Harness, access_log: AccessLog, leave: Leave) -> None:
    gateway.model.script = (TextDelta("Hel"), asyncio.Event())
    async with bare(gateway.port) as wire:
        wire.send_chat(stream=True)
        await wire.reader.readuntil(b'"Hel"')

        leave(wire)

        async with promptly():
            assert await gateway.run_log.end_of() == LEFT
            line = await access_log.line()
    assert (line["outcome"], line["status"]) == ("client_left", 200)
    await assert_all_is_free(gateway)


async def test_while_tokens_pour(gateway: Harness) -> None:
    gateway.model.script = (*[TextDelta("x" * 1_000)] * 50_000, asyncio.Event())
    async with bare(gateway.port) as wire:
        wire.send_chat(stream=True)
        await wire.reader.readuntil(b"xxx")
        wire.leave()
        assert await gateway.run_log.end_of() == LEFT
    await assert_all_is_free(gateway)


async def test_in_the_middle_of_an_answer_that_does_not_stream(gateway: Harness) -> None:
    gateway.model.script = (TextDelta("Hel"), asyncio.Event())
    async with bare(gateway.port) as wire:
        wire.send_chat()
        await gateway.model.called.wait()
        wire.leave()
        async with promptly():
            assert await gateway.run_log.end_of() == LEFT
    await assert_all_is_free(gateway)


async def test_after_a_keepalive(gateway: Harness) -> None:
    gateway.chat(keepalive=0.02)
    gateway.model.script = (asyncio.Event(),)
    async with bare(gateway.port) as wire:
        wire.send_chat(stream=True)
        await wire.reader.readuntil(b": keepalive\n\n")
        wire.leave()
        async with promptly():
            assert await gateway.run_log.end_of() == LEFT
    await assert_all_is_free(gateway)


@pytest.mark.parametrize("stream", [True, False])
async def test_in_the_queue(gateway: Harness, client: Client, stream: bool) -> None:
    gate = asyncio.Event()
    gateway.model.script = (gate, TextDelta("Hi"), STOP)
    first = asyncio.create_task(client.chat(user="Alice"))
    await gateway.model.called.wait()
    async with bare(gateway.port) as wire:
        gateway.run_log.opened.clear()
        wire.send_chat(user="Alice", stream=stream)
        await gateway.run_log.opened.wait()

        wire.leave()

        async with promptly():
            assert await gateway.run_log.end_of(1) == LEFT
    assert (gateway.lanes.working, gateway.lanes.waiting) == (1, 0)
    gate.set()
    assert (await first).status == 200
    assert len(gateway.model.seen) == 1


async def test_while_sending_the_body(gateway: Harness, access_log: AccessLog) -> None:
    async with bare(gateway.port) as wire:
        wire.send_head("Content-Length: 100")
        wire.writer.write(b'{"mess')
        wire.leave()
        assert (await access_log.line())["outcome"] == "client_left"
    assert gateway.run_log.runs == []


async def test_a_run_that_somebody_else_follows_goes_on(gateway: Harness) -> None:
    gate = asyncio.Event()
    gateway.model.script = (gate, TextDelta("Hi"), STOP)
    async with bare(gateway.port) as wire:
        wire.send_chat(stream=True)
        await gateway.model.called.wait()
        [(principal, run)] = gateway.gateway.submitted
        async with gateway.gateway.follow(principal, run) as events:
            wire.leave()
            gate.set()
            *_, last = [told.events[-1] async for told in events]
    assert isinstance(last, Finished)


async def test_a_connection_can_be_used_again_after_a_stream(gateway: Harness) -> None:
    async with asyncio.timeout(10), bare(gateway.port) as wire:
        for _ in range(3):
            wire.send_chat(stream=True)
            await wire.reader.readuntil(b"\r\n0\r\n\r\n")


async def test_a_client_that_never_reads_counts_as_gone(
    gateway: Harness, access_log: AccessLog
) -> None:
    gateway.chat(write_timeout=0.2)
    gateway.model.script = (*[TextDelta("x" * 1_000_000)] * 40, asyncio.Event())
    async with bare(gateway.port, narrow=True) as wire:
        wire.send_chat(stream=True)
        await gateway.model.called.wait()

        assert await gateway.run_log.end_of() == LEFT
        line = await access_log.line()

    assert (line["outcome"], line["status"]) == ("client_stalled", 200)
    await assert_all_is_free(gateway)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_that_cuts_the_exchange_stops_the_run_as_well(
    gateway: Harness, stream: bool
) -> None:
    gateway.model.script = (TextDelta("Hel"), asyncio.Event())
    body = json.dumps({"messages": HI, "stream": stream}).encode()
    told: list[dict[str, object]] = [{"type": "http.request", "body": body}]
    sent = asyncio.Event()

    async def receive() -> dict[str, object]:
        if told:
            return told.pop()
        await asyncio.Event().wait()
        return {}

    async def send(message: dict[str, object]) -> None:
        sent.set()

    headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
    scope: dict[str, object] = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "headers": headers,
        "scheme": "http",
    }
    scope |= {"http_version": "1.1", "query_string": b"", "client": ("127.0.0.1", 1)}
    before = asyncio.all_tasks()
    exchange = asyncio.create_task(gateway.app(scope, receive, send))  # type: ignore[arg-type]
    await (sent.wait() if stream else gateway.model.called.wait())

    exchange.cancel()
    await asyncio.gather(exchange, return_exceptions=True)

    assert await gateway.run_log.end_of() == LEFT
    assert not [task for task in asyncio.all_tasks() - before if "asgi.py" in repr(task)]


async def test_a_following_request_finds_the_session_free(gateway: Harness, client: Client) -> None:
    gateway.model.script = (TextDelta("Hel"), asyncio.Event())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.chat(user="Alice", stream=True)
    assert await gateway.run_log.end_of() == LEFT
    gateway.model.script = (TextDelta("Hi"), STOP)

    reply = await client.chat(user="Alice")

    assert reply.status == 200
    # Nothing of the turn that was left is kept.
    assert [message.text for message in gateway.model.seen[-1].messages] == ["Hi"]
