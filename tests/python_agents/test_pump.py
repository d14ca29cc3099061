"""Streams from other event loops: nothing is lost, nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

import pytest

from opensoul.adapters.python_agents.errors import UserCodeExited
from opensoul.adapters.python_agents.threads import AgentThread, Pump, taken

MANY = 2_000
"""Far more than a Pump holds."""


@pytest.fixture(params=["thread", "inline"])
async def there(request: pytest.FixtureRequest) -> AsyncIterator[asyncio.AbstractEventLoop | None]:
    """The loop of the stream; None: that of the reader."""
    if request.param == "inline":
        yield None
        return
    thread = AgentThread("test")
    yield thread.loop
    await thread.close()


Loop = asyncio.AbstractEventLoop | None


@pytest.mark.parametrize("suspends", [1, 3, MANY + 1])
@pytest.mark.parametrize("reader_waits", [True, False])
async def test_everything_arrives_in_order(there: Loop, suspends: int, reader_waits: bool) -> None:
    async def numbers() -> AsyncGenerator[list[int]]:
        for number in range(MANY):
            yield [number]
            if number % suspends == suspends - 1:
                await asyncio.sleep(0)

    found: list[int] = []
    async with aclosing(Pump(numbers, there).read()) as batches:
        async for batch in batches:
            found += batch
            if reader_waits:
                await asyncio.sleep(0)

    assert found == list(range(MANY))


async def test_a_reader_that_is_slow_holds_the_stream_back(there: Loop) -> None:
    made = 0

    async def numbers() -> AsyncGenerator[list[int]]:
        nonlocal made
        for number in range(MANY):
            made += 1
            yield [number]

    async with aclosing(Pump(numbers, there).read()) as batches:
        await anext(batches)
        assert made < MANY
        rest = [number async for batch in batches for number in batch]

    assert rest[-1] == made - 1 == MANY - 1


async def test_an_error_comes_behind_what_was_yielded(there: Loop) -> None:
    async def fails() -> AsyncGenerator[list[int]]:
        yield [1]
        raise ValueError("no more")

    found: list[int] = []

    async def read() -> None:
        async with aclosing(Pump(fails, there).read()) as batches:
            async for batch in batches:
                found.extend(batch)

    with pytest.raises(ValueError, match="no more"):
        await read()
    assert found == [1]


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
async def test_code_that_ends_itself_ends_nothing_else(there: Loop, error: BaseException) -> None:
    async def exits() -> AsyncGenerator[list[int]]:
        if error:
            raise error
        yield []

    async def read() -> None:
        async with aclosing(Pump(exits, there).read()) as batches:
            async for _ in batches:
                pass

    with pytest.raises(UserCodeExited):
        await read()


async def test_a_stream_that_is_left_is_cancelled(there: Loop) -> None:
    ended: list[str] = []

    async def waits() -> AsyncGenerator[list[int]]:
        yield [1]
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    pump = Pump(waits, there)
    async with aclosing(pump.read()) as batches:
        await anext(batches)

    assert ended == ["cancelled"]
    assert not pump.is_stuck


async def test_a_stream_that_catches_its_cancellation_and_goes_on_is_closed(there: Loop) -> None:
    ended: list[str] = []

    async def goes_on() -> AsyncGenerator[list[int]]:
        try:
            while True:
                yield [1]
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        finally:
            ended.append("closed")

    pump = Pump(goes_on, there)
    async with aclosing(pump.read()) as batches:
        await anext(batches)

    assert ended == ["closed"]
    assert not pump.is_stuck


async def test_a_stream_can_wait_until_its_reader_asks_for_more(there: Loop) -> None:
    done: list[int] = []

    async def effects() -> AsyncGenerator[list[int]]:
        for number in range(MANY):
            yield [number]
            if not number % 100:
                await taken()
            done.append(number)

    processed: list[int] = []
    async with aclosing(Pump(effects, there).read()) as batches:
        async for batch in batches:
            await asyncio.sleep(0)
            assert all(number in processed for number in done if not number % 100)
            processed += batch

    assert done == processed == list(range(MANY))


@pytest.mark.parametrize("in_a_thread", [False, True])
async def test_what_a_hook_announces_is_read_before_the_hook_goes_on(
    there: Loop, in_a_thread: bool
) -> None:
    order: list[str] = []

    async def hook() -> None:
        await taken("tool")
        order.append("runs")

    async def stream() -> AsyncGenerator[list[str]]:
        yield ["text"]
        await (asyncio.to_thread(asyncio.run, hook()) if in_a_thread else hook())
        yield ["end"]

    async with aclosing(Pump(stream, there).read()) as batches:
        async for batch in batches:
            await asyncio.sleep(0)
            order += batch

    assert order == ["text", "tool", "runs", "end"]


async def test_a_hook_of_a_run_that_has_ended_is_cancelled(there: Loop) -> None:
    ended: list[str] = []

    async def hook() -> None:
        try:
            await taken("tool")
        except asyncio.CancelledError:
            ended.append("hook")

    async def stream() -> AsyncGenerator[list[str]]:
        task = asyncio.create_task(hook())
        try:
            yield ["text"]
            await asyncio.Event().wait()
        finally:
            await task

    async with aclosing(Pump(stream, there).read()) as batches:
        async for batch in batches:
            if "tool" in batch:
                break

    assert ended == ["hook"]
