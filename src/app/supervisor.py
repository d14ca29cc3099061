"""Runs the background tasks of the Gateway: a task that fails is logged, reported and restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]
Sleep = Callable[[float], Awaitable[object]]

REPEATED = 2
"""Consecutive failures from which on the Gateway is not ready."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_SETTLED = 30.0
"""Seconds without a failure after which an endless task counts as healthy again."""


def backoff(failures: int) -> float:
    """Seconds until the next attempt after that many failures in a row."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 10))


@dataclass(slots=True, eq=False)
class _Supervised:
    """One task. `began`: when the attempt in progress began, None during a pause; only an endless
    task has it, because a periodic one shows its health by finishing."""

    name: str
    failures: int = 0
    began: float | None = None


class Supervisor:
    """Starts tasks by name, and restarts them with growing pauses, until it is closed.

    `sleep` waits for that many seconds; a test passes one that is quicker.
    """

    def __init__(self, *, sleep: Sleep = asyncio.sleep, settled: float = _SETTLED) -> None:
        self._sleep = sleep
        self._settled = settled
        self._supervised: list[_Supervised] = []
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, name: str, work: Work) -> None:
        """Run work that never ends. If it returns, that counts as a failure."""
        self._start(name, lambda supervised: self._run(supervised, work))

    def every(self, name: str, seconds: float, work: Work, *, at_once: bool = False) -> None:
        """Run work again and again, with pauses of `seconds`. After a failure the pause is the
        shorter one of `seconds` and the backoff."""
        first = 0.0 if at_once else seconds
        self._start(name, lambda supervised: self._repeat(supervised, seconds, work, first))

    def degraded(self) -> Mapping[str, str]:
        """The tasks whose last attempt failed, each with a sentence that holds no secret."""
        return {f"background task {one.name}": _sentence(one) for one in self._unhealthy(1)}

    def failing(self) -> Mapping[str, str]:
        """The tasks of `degraded` that failed repeatedly."""
        return {f"background task {one.name}": _sentence(one) for one in self._unhealthy(REPEATED)}

    async def close(self) -> None:
        """Cancel all tasks and wait for their end. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._supervised.clear()

    def _start(self, name: str, work: Callable[[_Supervised], Coroutine[Any, Any, None]]) -> None:
        supervised = _Supervised(name)
        self._supervised.append(supervised)
        self._tasks.append(asyncio.create_task(work(supervised), name=name))

    async def _run(self, supervised: _Supervised, work: Work) -> None:
        async def endless() -> None:
            await work()
            raise RuntimeError("the task returned, though its work has no end")

        while True:
            supervised.began = asyncio.get_running_loop().time()
            await self._attempt(supervised, endless)
            supervised.began = None
            await self._sleep(backoff(supervised.failures))

    async def _repeat(
        self, supervised: _Supervised, seconds: float, work: Work, pause: float
    ) -> None:
        while True:
            await self._sleep(pause)
            await self._attempt(supervised, work)
            failures = supervised.failures
            pause = min(seconds, backoff(failures)) if failures else seconds

    async def _attempt(self, supervised: _Supervised, work: Work) -> None:
        """The outermost handler of a background task: its failure is counted and logged. Raises
        CancelledError where the task was cancelled, also where the work has not noticed that:
        `asyncio.wait_for`, which the driver of the database uses, may lose it in Python 3.11."""
        try:
            await work()
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            self._failed(supervised, error)  # Raised by the work; the task was not cancelled.
        except Exception as error:
            self._failed(supervised, error)
        else:
            if supervised.failures:
                logger.warning("a background task works again", extra={"task": supervised.name})
            supervised.failures = 0
        if _is_cancelled():
            raise asyncio.CancelledError

    def _failed(self, supervised: _Supervised, error: BaseException) -> None:
        if self._has_settled(supervised):
            supervised.failures = 0
        supervised.failures += 1
        extra = {"task": supervised.name, "failures": supervised.failures}
        logger.error("a background task failed", exc_info=error, extra=extra)

    def _unhealthy(self, failures: int) -> Iterator[_Supervised]:
        for one in self._supervised:
            if one.failures >= failures and not self._has_settled(one):
                yield one

    def _has_settled(self, supervised: _Supervised) -> bool:
        if supervised.began is None:
            return False
        return asyncio.get_running_loop().time() - supervised.began >= self._settled


def _is_cancelled() -> bool:
    """Whether the current task is to end."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _sentence(supervised: _Supervised) -> str:
    times = "once" if supervised.failures == 1 else f"{supervised.failures} times in a row"
    return f"It failed {times} and is started again; the log has the reason."
