"""Runs that a process stores for others."""

from __future__ import annotations

import asyncio

from tests.fakes.domain import run

from .postgres_runs import node


async def test_a_caller_that_leaves_as_its_run_is_stored_is_not_released_by_the_queue_too(
    emptied_postgres: str,
) -> None:
    releases = []
    loop = asyncio.get_running_loop()
    async with node(emptied_postgres, works=False) as gateway:

        def released() -> None:
            releases.append("released")
            loop.call_soon(task.cancel)

        task = asyncio.create_task(gateway.queue.enqueue(run(), on_release=released))
        await asyncio.wait((task,))

    assert not task.cancelled()
    assert task.result().fresh
    assert releases == ["released"]
