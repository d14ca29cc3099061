"""Streams that are made on other event loops, or by code that must not be trusted to end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from .errors import UserCodeExited

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
    """

    def __init__(self, make: Make[T], there: asyncio.AbstractEventLoop | None) -> None:
        self._make = make
        self._here = asyncio.get_running_loop()
        self._there = self._here if there is None else there
        self._held: list[list[T]] = []
        self._fresh = asyncio.Event()
        self._room: asyncio.Event | None = None
        self._lock = threading.Lock()
        self._over: Future[None] = Future()
        """Done when the producer has ended."""
        self.is_stuck = False
        """The producer was cancelled and did not end."""

    async def read(self) -> AsyncGenerator[list[T]]:
        """What has come together is yielded together. Raises what the stream raises, and
        LoopBlocked where it has not begun."""
        future = self._begin()
        try:
            await self._first()
            while True:
                await self._fresh.wait()
                self._fresh.clear()
                ended = future.done()
                if batch := self._taken():
                    yield batch
                if ended:
                    if batch := self._taken():
                        yield batch
                    await _outcome(future)
                    return
        finally:
            if not future.done():
                future.cancel()
                # Not the future, which is done as soon as it is cancelled.
                self.is_stuck = self._room is not None and not await _ended(self._over, _GRACE)

    async def _first(self) -> None:
        """Return once there is something to read, or the producer has begun."""
        try:
            async with asyncio.timeout(_UNRESPONSIVE):
                await self._fresh.wait()
        except TimeoutError:
            if self._room is None:
                raise LoopBlocked from None

    def _begin(self) -> Future[None] | asyncio.Task[None]:
        if self._there is self._here:
            task = self._here.create_task(self._drive())
            task.add_done_callback(lambda _: self._fresh.set())
            return task
        future = asyncio.run_coroutine_threadsafe(self._drive(), self._there)
        future.add_done_callback(lambda _: self._here.call_soon_threadsafe(self._fresh.set))
        return future

    async def _drive(self) -> None:
        self._room = room = asyncio.Event()
        try:
            async with aclosing(self._make()) as stream:
                async for batch in stream:
                    if not batch:
                        continue
                    with self._lock:
                        self._held.append(batch)
                        held = len(self._held)
                    if held == 1:
                        self._wake()
                    if held >= _MOST_HELD:
                        room.clear()
                        with self._lock:
                            held = len(self._held)
                        if held >= _MOST_HELD:
                            await room.wait()
        except (asyncio.CancelledError, Exception):
            raise
        except BaseException as error:
            # It would end the event loop itself.
            raise UserCodeExited(f"{type(error).__name__}: {error}") from error
        finally:
            self._over.set_result(None)

    def _wake(self) -> None:
        if self._there is self._here:
            self._fresh.set()
        else:
            self._here.call_soon_threadsafe(self._fresh.set)

    def _taken(self) -> list[T]:
        with self._lock:
            batches, self._held = self._held, []
        if len(batches) >= _MOST_HELD and self._room is not None:
            self._there.call_soon_threadsafe(self._room.set)
        if len(batches) == 1:
            return batches[0]
        return [item for batch in batches for item in batch]


async def _outcome(future: Future[None] | asyncio.Task[None]) -> None:
    """Raises what the producer has raised."""
    if isinstance(future, Future):
        future.result()
    else:
        await future


async def _ended(over: Future[None], seconds: float) -> bool:
    """Whether that is done within so many seconds."""
    done, _ = await asyncio.wait({asyncio.wrap_future(over)}, timeout=seconds)
    return bool(done)


class AgentThread:
    """A thread with an event loop, on which the code of one agent runs."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs on the loop of the thread."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def close(self) -> None:
        """End the loop and the thread. A thread that does not end is left to the process."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, _STOPPING)
        if self._thread.is_alive():
            logger.error("the thread of an agent does not end", extra={"of": self._thread.name})

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            _cancel_all(self._loop)
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_STOPPING))
