"""What runs cost that wait for an approval."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from tests.approvals.office import Office, calls

RUNS = 100
WARM = 20
MOST_BYTES = 20_000


async def wait_for_approvals(office: Office, name: str, runs: int) -> None:
    """Begin runs that wait, each in a session of its own, by clients that leave."""
    for number in range(runs):
        asked = await office.said("Send it.", user=f"{name}-{number}")
        assert asked.code
    office.provider.requests.clear()


async def idle_tasks() -> set[asyncio.Task[object]]:
    """The tasks that are left once those of the last request have ended."""
    before: set[asyncio.Task[object]] = set()
    while (tasks := asyncio.all_tasks()) != before:
        before = tasks
        for _ in range(20):
            await asyncio.sleep(0)
    return tasks


async def test_runs_that_wait_have_no_task_and_take_little_memory(office: Office) -> None:
    office.provider.default = calls()
    await wait_for_approvals(office, "warm", WARM)
    tasks = len(await idle_tasks())
    gc.collect()
    tracemalloc.start()
    try:
        await wait_for_approvals(office, "cold", RUNS)
        assert len(await idle_tasks()) <= tasks
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len((await office.http("GET"))[1]["data"]) == WARM + RUNS
    print(f"{taken / RUNS:.0f} bytes for a run that waits")
    assert taken / RUNS < MOST_BYTES
