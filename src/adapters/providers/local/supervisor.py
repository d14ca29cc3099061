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

Launch = Callable[[], Awaitable[ModelProcess]]


class ModelSupervisor:
    """`name`: the model, for messages. `now`: a monotonic clock.

    `_starting` is the task of a start in progress, which all callers share; `_watching` is the task
    that waits for the exit of the running child and records it as a failure.
    """

    def __init__(self, name: str, launch: Launch, *, now: Callable[[], float]) -> None:
        self._name = name
        self._log_fields = {"model": name}
        self._launch = launch
        self._now = now
        self._child: ModelProcess | None = None
        self._starting: asyncio.Task[ModelProcess | ChildFailed] | None = None
        self._watching: asyncio.Task[None] | None = None
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
        if self._watching is not None and not self._is_serving():
            await asyncio.shield(self._watching)  # The exit is recorded before a restart.
        if self._child is not None and self._is_serving():
            return self._child
        if self._starting is None:
            self._refuse_after_failures()
            self._starting = asyncio.create_task(self._start())
        match await asyncio.shield(self._starting):
            case ChildFailed() as problem:
                raise self._unreachable(f"cannot be started. {problem.message}", problem.detail)
            case child:
                return child

    async def close(self) -> None:
        """Stop the child, or cancel its start. May be called twice."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._child is not None:
            await self._child.stop()
        if self._watching is not None:
            await self._watching

    def _is_serving(self) -> bool:
        return self._child is not None and self._child.alive and not self._closed

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

    async def _start(self) -> ModelProcess | ChildFailed:
        started_at = self._now()
        outcome = await self._launch_outcome()
        self._starting = None
        if isinstance(outcome, ChildFailed):
            self._record_failure(outcome)
            return outcome
        self._child = outcome
        self._watching = asyncio.create_task(self._watch(outcome, started_at))
        ready = {
            "model": self._name,
            "seconds": round(self._now() - started_at, 2),
            "pid": outcome.pid,
            "slots": outcome.endpoint.slots,
            "context": outcome.endpoint.context,
        }
        logger.info("a local model is ready", extra=ready)
        return outcome

    async def _launch_outcome(self) -> ModelProcess | ChildFailed:
        try:
            return await self._launch()
        except ChildFailed as problem:
            return problem
        except asyncio.CancelledError:  # By `close`; the callers are not cancelled.
            return ChildFailed("The Gateway is shutting down.")
        # The outermost handler of the task. An unexpected error counts as a failed start, so that
        # the next call starts again instead of receiving this error.
        except Exception as error:
            logger.exception("starting a local model failed unexpectedly", extra=self._log_fields)
            return ChildFailed(f"Internal error: {type(error).__name__}.")

    async def _watch(self, child: ModelProcess, started_at: float) -> None:
        try:
            how = await child.ended()
        finally:
            self._watching = None
        if self._now() - started_at >= _STABLE:
            self._failures = 0
        self._record_failure(ChildFailed(f"Its process exited ({how}).", child.stderr_tail))

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
