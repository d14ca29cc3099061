"""Runs a coroutine as `asyncio.run` does, without waiting for tasks that ignore cancellation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE = 0.5
"""Seconds for the remaining tasks to end after their cancellation."""


def run(
    main: Coroutine[Any, Any, T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    patience: float = _PATIENCE,
) -> T:
    """Run `main`. A task that ignores its cancellation, such as that of an abandoned runner, is
    abandoned after `patience` seconds and logged; `asyncio.run` would wait for it forever."""
    runner = asyncio.Runner(loop_factory=loop_factory)
    try:
        return runner.run(main)
    finally:
        loop = runner.get_loop()
        stuck = loop.run_until_complete(_end_tasks(patience))
        if stuck:
            names = ", ".join(sorted(task.get_name() for task in stuck))
            logger.error("tasks that do not end are left behind", extra={"tasks": names})
            # Otherwise the loop would report each of them again on garbage collection.
            loop.set_exception_handler(lambda *_: None)
            asyncio.set_event_loop(None)
            loop.close()
        else:
            runner.close()


async def _end_tasks(patience: float) -> set[asyncio.Task[Any]]:
    """Cancel all other tasks; returns those that have not ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if not tasks:
        return set()
    ended, stuck = await asyncio.wait(tasks, timeout=patience)
    for task in ended:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task failed while the process ended", exc_info=error)
    return stuck
