"""How a process leaves its event loop: with everything ended, or without what does not end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from opensoul.app.server import event_loop


async def deaf(begun: asyncio.Event) -> None:
    """Swallows every cancellation."""
    begun.set()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


async def fails_when_cancelled(begun: asyncio.Event) -> None:
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("broken")


def test_a_task_that_swallows_its_cancellation_is_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left: list[asyncio.Task[None]] = []

    async def main() -> str:
        begun = asyncio.Event()
        left.append(asyncio.create_task(deaf(begun), name="deaf one"))
        await begun.wait()
        return "done"

    with caplog.at_level(logging.ERROR):
        assert event_loop.run(main(), patience=0.01) == "done"

    (record,) = caplog.records
    assert (record.message, vars(record)["tasks"]) == (
        "tasks that do not end are left behind",
        "deaf one",
    )
    assert left[0].get_loop().is_closed()


def test_a_task_that_fails_as_it_is_cancelled_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> asyncio.Task[None]:
        begun = asyncio.Event()
        task = asyncio.create_task(fails_when_cancelled(begun))
        await begun.wait()
        return task

    with caplog.at_level(logging.ERROR):
        task = event_loop.run(main())

    assert task.done()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"


def test_an_error_of_the_main_coroutine_comes_through() -> None:
    async def main() -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError):
        event_loop.run(main())
