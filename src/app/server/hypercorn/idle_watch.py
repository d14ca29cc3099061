"""The end of idle connections, in the place of hypercorn's `AsyncioSingleTask`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from hypercorn.typing import TaskGroup

from ....adapters.transports.http.deadline import ReusableDeadline
from .leaving import Leaving


class End(Protocol):
    """An event of hypercorn or of asyncio that is set once."""

    def is_set(self) -> bool: ...

    async def wait(self) -> object: ...


class IdleWatch:
    """Calls `close` when the connection has been idle for too long, or is idle once `terminated` is
    set: `first` seconds are for the first request, `later` seconds for each further one.

    `has_received`: whether bytes have come that are not handled yet. Then the connection gets
    `first` seconds more, once for each request. `leaving`: with `may_leave`, an idle connection is
    closed as soon as that has begun.

    hypercorn starts and cancels two tasks for each request; this is one timer and one task for the
    whole connection.
    """

    def __init__(
        self,
        *,
        first: float,
        later: float,
        terminated: End,
        close: Callable[[], Awaitable[None]],
        has_received: Callable[[], bool] = lambda: False,
        leaving: Leaving | None = None,
        may_leave: Callable[[], bool] = lambda: False,
    ) -> None:
        self._first = first
        self._later = later
        self._terminated = terminated
        self._close = close
        self._has_received = has_received
        self._leaving = leaving
        self._may_leave = may_leave
        self._tasks: TaskGroup | None = None
        self._deadline: ReusableDeadline | None = None
        self._termination: asyncio.Task[None] | None = None
        self._extension: asyncio.TimerHandle | None = None
        """Of a connection that was to be closed when the beginning of a request had come."""
        self._expects_first = True
        self._is_idle = False
        self._is_closing = False
        self._has_ended = False

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for a request."""
        return self._is_idle

    async def restart(self, task_group: TaskGroup, action: object) -> None:
        """The connection is idle from now on. `action` is hypercorn's way to close it."""
        if self._has_ended:
            return
        self._is_idle = True
        if self._deadline is None:
            self._tasks = task_group
            seconds = self._first if self._expects_first else self._later
            self._deadline = ReusableDeadline(seconds, self._end_idle)
            if self._termination is None:
                self._termination = asyncio.create_task(self._wait_for_end())
                if self._leaving is not None:
                    self._leaving.enter(self)
        self._deadline.arm()
        if self._terminated.is_set():
            self._end_idle()
        elif self._leaving is not None and self._leaving.begun:
            self.leave()

    async def stop(self) -> None:
        """The connection is not idle any more."""
        self._set_busy()
        self._end_extension()
        if self._deadline is None:
            return
        if self._expects_first:
            self._expects_first = False
            self._deadline.stop()
            self._deadline = None
        else:
            self._deadline.disarm()

    def leave(self) -> None:
        """The server has begun to leave."""
        if self._is_idle and self._may_leave():
            self._end_idle()

    def end(self) -> None:
        """The connection has ended."""
        self._has_ended, self._is_idle = True, False
        self._end_extension()
        if self._leaving is not None:
            self._leaving.discard(self)
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
        if self._is_idle and not self._is_closing and self._tasks is not None:
            self._is_closing = True
            self._tasks.spawn(self._close_idle)

    async def _close_idle(self) -> None:
        """Close the connection, unless a request has come since that was decided."""
        self._is_closing = False
        if not self._is_idle:
            return
        if self._extension is None and self._has_received():
            loop = asyncio.get_running_loop()
            self._extension = loop.call_later(self._first, self._end_idle)
            return
        self._set_busy()
        await self._close()

    def _set_busy(self) -> None:
        self._is_idle = False
        if self._leaving is not None and self._leaving.begun:
            self._leaving.not_idle()

    def _end_extension(self) -> None:
        if self._extension is not None:
            self._extension.cancel()
            self._extension = None
