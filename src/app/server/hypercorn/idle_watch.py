"""The end of idle connections, in the place of hypercorn's `AsyncioSingleTask`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hypercorn.typing import Event, TaskGroup

from ....adapters.transports.http.deadline import ReusableDeadline


class IdleWatch:
    """Calls `close` when the connection has been idle for too long, or is idle once `terminated` is
    set: `first` seconds are for the first request, `later` seconds for each further one.

    hypercorn starts and cancels two tasks for each request; this is one timer and one task for the
    whole connection.
    """

    def __init__(
        self,
        *,
        first: float,
        later: float,
        terminated: Event,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._first = first
        self._later = later
        self._terminated = terminated
        self._close = close
        self._tasks: TaskGroup | None = None
        self._deadline: ReusableDeadline | None = None
        self._termination: asyncio.Task[None] | None = None
        self._expects_first = True
        self._is_idle = False
        self._has_ended = False

    async def restart(self, task_group: TaskGroup, action: object) -> None:
        """The connection is idle from now on. `action` is hypercorn's way to close it."""
        if self._has_ended:
            return
        self._is_idle = True
        if self._deadline is None:
            self._tasks = task_group
            seconds = self._first if self._expects_first else self._later
            self._deadline = ReusableDeadline(seconds, self._end_idle)
            self._termination = self._termination or asyncio.create_task(self._wait_for_end())
        self._deadline.arm()
        if self._terminated.is_set():
            self._end_idle()

    async def stop(self) -> None:
        """The connection is not idle any more."""
        self._is_idle = False
        if self._deadline is None:
            return
        if self._expects_first:
            self._expects_first = False
            self._deadline.stop()
            self._deadline = None
        else:
            self._deadline.disarm()

    def end(self) -> None:
        """The connection has ended."""
        self._has_ended, self._is_idle = True, False
        if self._deadline is not None:
            self._deadline.stop()
            self._deadline = None
        if self._termination is not None:
            self._termination.cancel()
            self._termination = None

    async def _wait_for_end(self) -> None:
        await self._terminated.wait()
        self._end_idle()

    def _end_idle(self) -> None:
        if self._is_idle and self._tasks is not None:
            self._is_idle = False
            self._tasks.spawn(self._close)
