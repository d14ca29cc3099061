"""A client that leaves stops the work, at whichever stage it leaves, and frees its session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.app.serving import Served
from tests.fakes.behaviours import answer, hang, hang_after
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.both_loops

AT_ONCE = 1.0
PATIENCE = 10.0


async def leave(asking: asyncio.Task[None]) -> None:
    """What a client does that closes its connection."""
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


def asking(
    served: Served, *, stream: bool, arrived: Callable[[aiohttp.ClientResponse], Awaitable[None]]
) -> asyncio.Task[None]:
    """A client in the session `alice` that waits for ever once `arrived` has seen its answer."""

    async def ask() -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as client:
            headers = served.authorization
            body = served.question(user="alice", stream=stream)
            url = f"{served.url}/v1/chat/completions"
            async with client.post(url, json=body, headers=headers) as response:
                await arrived(response)
                await asyncio.Event().wait()

    return asyncio.create_task(ask())


async def nothing(_: aiohttp.ClientResponse) -> None:
    pass


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_leaving_before_the_first_byte_closes_the_providers_connection(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    provider.will(hang())
    client = asking(served, stream=stream, arrived=nothing)
    request = await provider.arrival()

    await leave(client)

    await asyncio.wait_for(request.disconnected.wait(), AT_ONCE)
    assert await served.text(user="alice") == "Hello!"


async def test_leaving_in_the_middle_of_a_stream_closes_the_providers_connection(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    seen = asyncio.Event()

    async def until_text(response: aiohttp.ClientResponse) -> None:
        await response.content.readuntil(b"Hel")
        seen.set()

    client = asking(served, stream=True, arrived=until_text)
    request = await provider.arrival()
    await asyncio.wait_for(seen.wait(), PATIENCE)

    await leave(client)

    await asyncio.wait_for(request.disconnected.wait(), AT_ONCE)
    assert await served.text(user="alice") == "Hello!"


async def test_leaving_a_whole_answer_half_written_closes_the_providers_connection(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(hang_after("Hel"))
    client = asking(served, stream=False, arrived=nothing)
    request = await provider.arrival()
    await asyncio.wait_for(request.started.wait(), PATIENCE)

    await leave(client)

    await asyncio.wait_for(request.disconnected.wait(), AT_ONCE)
    assert await served.text(user="alice") == "Hello!"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_leaving_the_queue_gives_the_place_to_the_next(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    gate = asyncio.Event()
    provider.will(answer("first", " done", gate=gate))
    lanes = served.container.lanes()
    first = asyncio.create_task(served.text(user="alice"))
    await provider.arrival()
    waiting = asking(served, stream=stream, arrived=nothing)
    await until(lambda: lanes.waiting == 1)

    await leave(waiting)
    await until(lambda: lanes.waiting == 0)
    gate.set()

    assert await first == "first done"
    assert await served.text(user="alice") == "Hello!"
    assert len(provider.requests) == 2, "the one that left was never asked"


async def test_a_full_queue_is_a_429_that_tells_the_place(
    served: Served, provider: FakeProvider
) -> None:
    gate = asyncio.Event()
    provider.will(answer("first", " done", gate=gate))
    lanes = served.container.lanes()
    first = asyncio.create_task(served.text(user="alice"))
    await provider.arrival()
    rest = [asyncio.create_task(served.text(user="alice")) for _ in range(20)]
    await until(lambda: lanes.waiting == 20)

    async with served.ask(user="alice") as response:
        body = await response.json()
    gate.set()
    answers = await asyncio.gather(first, *rest)

    assert response.status == 429
    assert body["error"]["code"] == "session_busy"
    assert "21" in body["error"]["message"]
    assert int(response.headers["Retry-After"]) > 0
    assert answers == ["first done", *["Hello!"] * 20]


async def until(holds: Callable[[], bool]) -> None:
    """Let the event loop work until a condition on this process's own state holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - the length of a queue is nobody's event
            await asyncio.sleep(0)
