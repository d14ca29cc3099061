"""Runs that a process stores for others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opensoul.adapters.persistence.postgres.availability import DatabaseAway
from opensoul.domain.errors import StoreFailed
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


@pytest.mark.parametrize("once", [False, True])
async def test_a_run_whose_acceptance_got_no_answer_is_not_executed_unless_it_has_a_key(
    emptied_postgres: str, once: bool
) -> None:
    """The client gets an error, and repeats its request."""
    async with node(emptied_postgres, works=False) as gateway:
        rows: Any = gateway.database.rows
        lost = []

        async def interrupted(query: str, *values: Any, **options: Any) -> Any:
            if "run_abort" in query and "abort" not in lost:
                lost.append("abort")
                raise DatabaseAway("The connection broke.")
            found = await rows(query, *values, **options)
            if "run_accept" in query:
                lost.append("acceptance")
                raise DatabaseAway("The connection broke.")
            return found

        gateway.database.rows = interrupted  # type: ignore[method-assign]
        with pytest.raises(StoreFailed):
            await gateway.queue.enqueue(run(), once=once)
        await gateway.queue.close()
        states = await rows("SELECT state, status FROM runs")

    assert states == ([("ready", "queued")] if once else [("ended", "aborted")])
    assert lost == (["acceptance"] if once else ["acceptance", "abort"])
