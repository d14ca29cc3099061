"""The budget for the bytes of all requests, over HTTP and WebSocket together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import Peer, Refused, connect_params, connected
from tests.fakes.behaviours import answer, hang_after
from tests.fakes.provider import FakeProvider
from tests.http.client import bare
from tests.websocket.client import TEXT, frame, opened

BUDGET = 1_000_000


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(answer("Hel", "lo!")) as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    content = config(provider.base_url)
    content["gateway"]["http"]["maxBytesInFlight"] = BUDGET
    content["agents"]["defaults"]["maxConcurrent"] = 1
    async with serving(tmp_path, content) as served:
        yield served


@pytest_asyncio.fixture
async def peer(served: Served) -> AsyncIterator[Peer]:
    async with connected(served.client, SECRET) as peer:
        yield peer


def used(served: Served) -> int:
    return served.container.gateway().in_flight.used


def said(size: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "x" * size}]


async def refusal(served: Served, size: int) -> tuple[int, Any, Any]:
    async with served.ask(messages=said(size)) as response:
        body = await response.json()
        return response.status, body["error"]["code"], response.headers.get("Retry-After")


async def test_a_run_that_waits_in_its_lane_counts(served: Served, provider: FakeProvider) -> None:
    gate = asyncio.Event()
    provider.default = answer("Hel", "lo!", gate=gate)
    working = [
        asyncio.create_task(served.text(messages=said(400_000))),
        asyncio.create_task(served.text(messages=said(400_000))),
    ]
    await provider.arrival()
    # The first is at the provider; the second waits for its slot once its body is charged.
    async with asyncio.timeout(10):
        while used(served) < 800_000:  # noqa: ASYNC110  # Nothing tells of a charge.
            await asyncio.sleep(0.01)

    assert await refusal(served, 300_000) == (503, "gateway_busy", "2")

    gate.set()
    assert await asyncio.gather(*working) == ["Hello!", "Hello!"]
    assert used(served) == 0
    assert await served.text(messages=said(300_000)) == "Hello!"


async def test_a_body_that_is_being_read_counts_as_far_as_it_is_read(served: Served) -> None:
    port = int(served.url.rpartition(":")[2])
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n"
        f"Authorization: Bearer {SECRET}\r\n\r\n"
    )
    async with bare(port) as client:
        client.writer.write(head.encode() + b" " * 900_000)
        async with asyncio.timeout(10):
            while used(served) < 900_000:  # noqa: ASYNC110  # Nothing tells of a charge.
                await asyncio.sleep(0.01)

        assert used(served) == 900_000
        assert (await refusal(served, 300_000))[0] == 503
        assert await served.text(messages=said(50_000)) == "Hello!"
    async with asyncio.timeout(10):
        while used(served):  # noqa: ASYNC110  # Nothing tells of a charge.
            await asyncio.sleep(0.01)


async def test_on_the_websocket_it_is_unavailable_and_says_when_to_try_again(
    served: Served, provider: FakeProvider, peer: Peer
) -> None:
    provider.default = hang_after("Hel")
    first = await peer.call("chat.send", sent("first", 700_000))

    with pytest.raises(Refused) as refused:
        await peer.call("chat.send", sent("second", 400_000))

    error = refused.value.error
    assert (error["code"], error["retryable"], error["retryAfterMs"]) == (
        "UNAVAILABLE",
        True,
        2_000,
    )
    # The run holds its bytes, also when its client has had its answer, or has left.
    assert used(served) > 700_000
    await peer.call("chat.abort", {"sessionKey": "agent:main:first"})
    await peer.event("chat", runId=first["runId"], state="aborted")
    assert (await peer.call("health"))["ok"]
    assert used(served) < 1_000


async def test_a_run_holds_its_bytes_after_its_client_has_left(
    served: Served, provider: FakeProvider, peer: Peer
) -> None:
    provider.default = hang_after("Hel")
    async with connected(served.client, SECRET) as other:
        await other.answer(other.send("agent", sent("left", 700_000)))
    await peer.call("health")

    assert used(served) > 700_000
    assert (await refusal(served, 400_000))[0] == 503
    await peer.call("chat.abort", {"sessionKey": "agent:main:left"})


async def test_a_message_that_is_not_complete_counts(served: Served, peer: Peer) -> None:
    connect = {"type": "req", "id": "c", "method": "connect", "params": connect_params(SECRET)}
    async with opened(int(served.url.rpartition(":")[2])) as raw:
        raw.send(frame(TEXT, json.dumps(connect).encode()))
        while '"c"' not in await raw.text():
            pass  # What comes before the answer.
        raw.send(frame(TEXT, b"x" * 600_000, fin=False))
        async with asyncio.timeout(10):
            while used(served) < 600_000:  # noqa: ASYNC110  # Nothing tells of a charge.
                await asyncio.sleep(0.01)

        with pytest.raises(Refused, match="it holds 6") as refused:
            await peer.call("chat.send", sent("second", 600_000))
        assert refused.value.error["code"] == "UNAVAILABLE"
        assert (await peer.call("health"))["ok"]
    async with asyncio.timeout(10):
        while used(served):  # noqa: ASYNC110  # Nothing tells of a charge.
            await asyncio.sleep(0.01)


def sent(name: str, size: int) -> dict[str, Any]:
    return {
        "message": "x" * size,
        "idempotencyKey": name,
        "sessionKey": f"agent:main:{name}",
    }
