"""Supervises one model's child process: starts it on demand, restarts it after it has exited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ....domain.errors import FailureKind, ModelFailed
from .process import ChildFailed, ModelProcess

logger = logging.getLogger(__name__)

_STABLE = 30.0
"""Seconds of uptime after which an exit resets the count of consecutive failures."""
_TRIES = 3
"""Consecutive failures that are followed by an immediate restart."""
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 60.0

_SHUTTING_DOWN = ChildFailed("The Gateway is shutting down.")

Launch = Callable[[], Awaitable[ModelProcess]]


class ModelSupervisor:
    """`name`: the model, for messages. `now`: a monotonic clock.

    `_life` is the task of the present child: it starts the child, waits for its exit and records
    that as a failure. `_ready` has the result of the start, which all callers share.
    """

    def __init__(self, name: str, launch: Launch, *, now: Callable[[], float]) -> None:
        self._name = name
        self._launch = launch
        self._now = now
        self._life: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[ModelProcess | ChildFailed]
        self._failures = 0
        self._failed_at = 0.0
        self._problem = ChildFailed("")
        self._closed = False

    async def child(self) -> ModelProcess:
        """The running child; starts it if necessary. Concurrent callers share one start.

        Raises ModelFailed (UNREACHABLE) if the child cannot be started, or if it failed so often in
        a row that the next attempt is delayed (`retry_after`). Cancelling a caller does not cancel
        the start.
        """
        while True:
            if self._life is None:
                self._refuse_after_failures()
                self._ready = asyncio.get_running_loop().create_future()
                self._life = asyncio.create_task(self._live(self._ready))
            life = self._life
            child = await asyncio.shield(self._ready)
            if isinstance(child, ChildFailed):
                raise self._unreachable(f"cannot be started. {child.message}", child.detail)
            if child.alive and not self._closed:
                return child
            await asyncio.shield(life)  # The exit is recorded before a restart.

    async def close(self) -> None:
        """Stop the child, or cancel its start. May be called twice."""
        self._closed = True
        life = self._life
        if life is None:
            return
        if self._ready.done():
            child = self._ready.result()
            if isinstance(child, ModelProcess):
                await child.stop()
        else:
            life.cancel()
        await asyncio.wait([life])
        if not self._ready.done():  # The task was cancelled before its first step.
            self._ready.set_result(_SHUTTING_DOWN)

    def _refuse_after_failures(self) -> None:
        if self._closed:
            raise self._unreachable("is unavailable: the Gateway is shutting down.")
        if self._failures < _TRIES:
            return
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - _TRIES, 10))
        wait = self._failed_at + pause - self._now()
        if wait > 0:
            raise self._unreachable(
                f"failed {self._failures} times in a row; the next attempt is in {wait:.0f} s. "
                f"The last failure: {self._problem.message}",
                self._problem.detail,
                retry_after=wait,
            )

    async def _live(self, ready: asyncio.Future[ModelProcess | ChildFailed]) -> None:
        started_at = self._now()
        child = await self._start()
        if isinstance(child, ChildFailed):
            problem = child
        else:
            ready.set_result(child)
            fields = {
                "model": self._name,
                "seconds": round(self._now() - started_at, 2),
                "pid": child.pid,
                "slots": child.endpoint.slots,
                "context": child.endpoint.context,
            }
            logger.info("a local model is ready", extra=fields)
            how = await child.ended()
            if self._now() - started_at >= _STABLE:
                self._failures = 0
            problem = ChildFailed(f"Its process exited ({how}).", child.stderr_tail)
        self._life = None
        self._record_failure(problem)
        if not ready.done():
            ready.set_result(problem)

    async def _start(self) -> ModelProcess | ChildFailed:
        try:
            return await self._launch()
        except ChildFailed as problem:
            return problem
        except asyncio.CancelledError:  # By `close`; the callers are not cancelled.
            return _SHUTTING_DOWN
        # The outermost handler of the task. An unexpected error counts as a failed start, so that
        # the next call starts again instead of receiving this error.
        except Exception as error:
            fields = {"model": self._name}
            logger.exception("starting a local model failed unexpectedly", extra=fields)
            return ChildFailed(f"Internal error: {type(error).__name__}.")

    def _record_failure(self, problem: ChildFailed) -> None:
        if self._closed:
            return
        self._failures += 1
        self._failed_at = self._now()
        self._problem = problem
        failed = {"model": self._name, "reason": problem.message, "detail": problem.detail}
        logger.error("a local model has failed", extra=failed)

    def _unreachable(
        self, clause: str, detail: str = "", *, retry_after: float | None = None
    ) -> ModelFailed:
        message = f"The local model {self._name} {clause}"
        return ModelFailed(FailureKind.UNREACHABLE, message, detail=detail, retry_after=retry_after)
