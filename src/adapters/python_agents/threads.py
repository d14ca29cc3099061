"""Streams that are made on other event loops, or by code that must not be trusted to end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from .errors import UserCodeExited, own_frames

logger = logging.getLogger(__name__)

T = TypeVar("T")
Make = Callable[[], AsyncGenerator[list[T]]]
_MOST_HELD = 256
"""Batches that wait for their reader; then the producer waits."""
_GRACE = 2.0
"""Seconds that a producer gets to end once it is cancelled."""
_UNRESPONSIVE = 1.0
"""Seconds after which a loop that runs nothing counts as blocked by its agent."""
_STOPPING = 2.0


class LoopBlocked(Exception):
    """The loop of a producer did not begin with it: other code blocks the loop."""


class Pump(Generic[T]):
    """Reads a stream in a task of its own, which is cancelled when nobody reads any more.

    Some frameworks close the connection of their model only when the task that reads them is
    cancelled, not when their generator is closed. `there` is the loop of that task; None: this one.

    The stream is read ahead, unless its code waits for `taken`.

    Waking another thread costs more than all else here, so that the reader is woken once for
    everything that it has not seen. Each side clears its flag before it looks at what the flag is
    about, and the other side changes that before it looks at the flag: no change is missed.
    """

    def __init__(self, make: Make[T], there: asyncio.AbstractEventLoop | None) -> None:
        self._make = make
        self._here = asyncio.get_running_loop()
        self._there = self._here if there is None else there
        self._held: deque[list[T]] = deque()
        self._fresh = asyncio.Event()
        self._woken = False
        """The reader is about to look."""
        self._room: asyncio.Event | None = None
        """Made by the producer when it begins."""
        self._is_full = False
        """The producer waits, or is about to."""
        self._barriers = 0
        """How many wait until all is read, or are about to."""
        self._is_reading = False
        """The reader has batches, and has not asked for the next ones."""
        self._is_left = False
        """The reader asks for no more."""
        self._task: asyncio.Task[None] | None = None
        self._cancelled = False
        self._ended = False
        self._error: BaseException | None = None
        self.is_stuck = False
        """The producer was cancelled and did not end."""

    async def read(self) -> AsyncGenerator[list[T]]:
        """What has come together is yielded together. Raises what the stream raises, and
        LoopBlocked where it has not begun."""
        if self._there is self._here:
            self._start()
        else:
            self._there.call_soon_threadsafe(self._start)
        unresponsive = self._here.call_later(_UNRESPONSIVE, self._fresh.set)
        try:
            while True:
                await self._next()
                ended = self._ended
                if batch := self._taken():
                    yield batch
                elif self._room is None and not ended:
                    raise LoopBlocked
                self._is_reading = False
                if self._barriers:
                    self._wake_producer()
                if ended:
                    break
            if self._error is not None:
                raise self._error
        finally:
            self._error = None  # Its traceback refers to this object.
            unresponsive.cancel()
            self._is_left = True
            if self._barriers:
                self._wake_producer()
            if not self._ended:
                await self._cancel()

    async def take(self, batch: list[T]) -> None:
        """Yield a batch beside the stream, and return once the reader has asked for more behind all
        that was yielded. To be called on the loop of the producer while that runs."""
        if self._room is None:
            return
        if batch:
            self._held.append(batch)
            self._wake()
        await self._until_read(self._room)

    @property
    def there(self) -> asyncio.AbstractEventLoop:
        """The loop of the producer."""
        return self._there

    async def _next(self) -> None:
        await self._fresh.wait()
        self._fresh.clear()
        self._woken = False

    def _start(self) -> None:
        if not self._cancelled:
            self._task = self._there.create_task(self._drive())

    async def _cancel(self) -> None:
        """Cancel the producer, and wait for its end where it has begun."""
        self._cancelled = True
        if self._there is self._here:
            self._stop()
        else:
            self._there.call_soon_threadsafe(self._stop)
        if self._room is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                while not self._ended:
                    await self._next()
        self.is_stuck = not self._ended

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _drive(self) -> None:
        self._room = asyncio.Event()
        _producing.set(self)
        try:
            async with aclosing(self._make()) as stream:
                async for batch in stream:
                    if batch:
                        if self._cancelled:  # The agent has caught that, and goes on.
                            break
                        self._held.append(batch)
                        if not self._woken:
                            self._wake()
                        if len(self._held) >= _MOST_HELD:
                            await self._wait_for_room(self._room)
        except asyncio.CancelledError as error:
            # Read only where the agent's own code has cancelled it.
            self._error = UserCodeExited("The code of the agent was cancelled.")
            self._error.__cause__ = error
        except Exception as error:  # The reader raises it.
            self._error = error
        except BaseException as error:
            # It would end the event loop itself.
            self._error = UserCodeExited(f"{type(error).__name__}: {error}")
            self._error.__cause__ = error
        finally:
            self._ended = True
            self._wake()

    async def _wait_for_room(self, room: asyncio.Event) -> None:
        room.clear()
        self._is_full = True
        if len(self._held) >= _MOST_HELD:
            await room.wait()
        self._is_full = False

    async def _until_read(self, room: asyncio.Event) -> None:
        self._barriers += 1
        try:
            while self._held or self._is_reading:
                if self._is_left:
                    raise asyncio.CancelledError("The run has ended.")
                room.clear()
                if self._held or self._is_reading:
                    await room.wait()
        finally:
            self._barriers -= 1

    def _wake(self) -> None:
        if self._woken:
            return
        self._woken = True
        if self._there is self._here:
            self._fresh.set()
        else:
            with suppress(RuntimeError):  # The loop of the reader is closed.
                self._here.call_soon_threadsafe(self._fresh.set)

    def _wake_producer(self) -> None:
        if self._room is not None:
            with suppress(RuntimeError):  # Its loop is closed.
                self._there.call_soon_threadsafe(self._room.set)

    def _taken(self) -> list[T]:
        self._is_reading = True  # Before anything is taken: see `_until_read`.
        batches = [self._held.popleft() for _ in range(len(self._held))]
        if self._is_full:
            self._wake_producer()
        if len(batches) == 1:
            return batches[0]
        return [item for batch in batches for item in batch]


_producing: ContextVar[Pump[Any] | None] = ContextVar("opensoul.pump", default=None)
"""The Pump whose stream the code is part of."""


async def taken(*items: Any) -> None:
    """Yield the items beside the stream that this code is part of, and return once the reader of
    the stream has asked for more behind all that was yielded: events of a run are then stored. Code
    in other threads and tasks is part of the stream if it has a copy of its context."""
    pump = _producing.get()
    if pump is None:
        return
    work = pump.take(list(items))
    if asyncio.get_running_loop() is pump.there:
        await work
    else:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, pump.there))


class CallThread:
    """A thread for code that is not asynchronous, one call after another. The end of the process
    does not wait for it, because such code may never return."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """The result of the function, called in the context of the caller. Raises what it raises,
        and UserCodeExited for a StopIteration, which no coroutine may raise."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = copy_context()

        def job() -> None:
            try:
                settle = partial(_succeed, future, context.run(function, *args))
            except StopIteration as error:
                exited = UserCodeExited("The code of the agent raised StopIteration.")
                exited.__cause__ = error
                settle = partial(_fail, future, exited)
            except BaseException as error:
                settle = partial(_fail, future, error)
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(settle)

        self._jobs.put(job)
        return await future

    def post(self, function: Callable[[], object]) -> None:
        """Call the function once the thread has time. What it raises is logged."""

        def job() -> None:
            try:
                function()
            except Exception:
                logger.exception("the code of an agent failed while it was closed")

        self._jobs.put(job)

    def close(self) -> None:
        """End the thread after the calls that wait."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # It holds the arguments.


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class AgentThread:
    """A thread with an event loop, on which the code of one agent runs."""

    def __init__(self, name: str) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    async def call(self, function: Callable[[], T]) -> T:
        """The result of a function, which is called in the thread while the loop is halted: modules
        may call `asyncio.run` when they are imported. Raises what the function raises."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        context = copy_context()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(context.run(self._halted, function))
            except Exception as error:
                future.set_exception(error)
            except BaseException as error:  # It would end the thread here, and the program there.
                exited = UserCodeExited(f"{type(error).__name__}: {error}")
                exited.__cause__ = error
                future.set_exception(exited)

        self._jobs.append(job)
        self._loop.call_soon_threadsafe(self._loop.stop)
        return await asyncio.wrap_future(future)

    def _halted(self, function: Callable[[], T]) -> T:
        try:
            return function()
        finally:
            if self._loop.is_closed():  # The function took it for its own.
                self._loop = asyncio.new_event_loop()

    async def close(self) -> None:
        """End the loop and the thread. A thread that does not end is left to the process."""
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, _STOPPING)
        if self._thread.is_alive():
            logger.error("the thread of an agent does not end", extra={"of": self._thread.name})

    def _serve(self) -> None:
        try:
            while not self._closing:
                asyncio.set_event_loop(self._loop)  # `asyncio.run` sets another one, then none.
                self._run()
                while self._jobs and not self._closing:
                    self._jobs.popleft()()
        finally:
            _cancel_all(self._loop)
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _run(self) -> None:
        """Run the loop until it is stopped, or something ends it that would end the program."""
        try:
            self._loop.run_forever()
        except BaseException as error:  # Of a task or callback of the agent; others need the loop.
            message = "the code of an agent raised %s outside of its run; its loop goes on"
            shown = own_frames(error)
            logger.error(message, type(error).__name__, exc_info=shown)  # noqa: TRY400


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_STOPPING))
