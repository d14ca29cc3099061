"""Keeps one model's child process there: starts it once, notices its end, starts it again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ....domain.errors import FailureKind, ModelFailed
from .process import ChildFailed, ModelProcess

logger = logging.getLogger(__name__)

_STABLE = 30.0
"""Seconds after which the end of a child is no failure of its start."""
_TRIES = 3
"""Failures in a row that are answered by starting again at once."""
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 60.0

Launch = Callable[[], Awaitable[ModelProcess]]


class ModelSupervisor:
    """`name` is the model's, for messages; `now` counts seconds and never goes back."""

    def __init__(self, name: str, launch: Launch, *, now: Callable[[], float]) -> None:
        self._name = name
        self._named = {"model": name}
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
        """The running child; all who ask while it starts get the same one.

        Raises ModelFailed (UNREACHABLE): it cannot be started, or has failed so often in a row
        that it is left alone for a while (`retry_after`). A caller that is cancelled does not
        stop the start.
        """
        if self._watching is not None and not self._serves():
            await asyncio.shield(self._watching)  # Its end is counted before another start.
        if self._child is not None and self._serves():
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
        """End the child, or its start. Safe to call twice."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._child is not None:
            await self._child.stop()
        if self._watching is not None:
            await self._watching

    def _serves(self) -> bool:
        return self._child is not None and self._child.alive and not self._closed

    def _refuse_after_failures(self) -> None:
        if self._closed:
            raise self._unreachable("is not there: the Gateway is shutting down.")
        if self._failures < _TRIES:
            return
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - _TRIES, 10))
        wait = self._failed_at + pause - self._now()
        if wait > 0:
            raise self._unreachable(
                f"has failed {self._failures} times in a row and is tried again in {wait:.0f} s. "
                f"The last time: {self._problem.message}",
                self._problem.detail,
                retry_after=wait,
            )

    async def _start(self) -> ModelProcess | ChildFailed:
        began = self._now()
        outcome = await self._launched()
        self._starting = None
        if isinstance(outcome, ChildFailed):
            self._count(outcome)
            return outcome
        self._child = outcome
        self._watching = asyncio.create_task(self._watch(outcome, began))
        ready = {
            "model": self._name,
            "seconds": round(self._now() - began, 2),
            "pid": outcome.pid,
            "slots": outcome.served_at.slots,
            "context": outcome.served_at.context,
        }
        logger.info("a local model is ready", extra=ready)
        return outcome

    async def _launched(self) -> ModelProcess | ChildFailed:
        try:
            return await self._launch()
        except ChildFailed as problem:
            return problem
        except asyncio.CancelledError:  # By `close`: whoever waits here is not cancelled.
            return ChildFailed("The Gateway is shutting down.")
        # The edge of the task. A start that fails unexpectedly is one that failed: the next call
        # starts again, instead of getting the error of this one.
        except Exception as error:
            logger.exception("starting a local model failed unexpectedly", extra=self._named)
            return ChildFailed(f"An internal error: {type(error).__name__}.")

    async def _watch(self, child: ModelProcess, began: float) -> None:
        try:
            how = await child.ended()
        finally:
            self._watching = None
        if self._now() - began >= _STABLE:
            self._failures = 0
        self._count(ChildFailed(f"It ended by itself ({how}).", child.last_words))

    def _count(self, problem: ChildFailed) -> None:
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
