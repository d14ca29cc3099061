"""What runs beside the requests: from the lock on the state directory to the last commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

from ..domain.errors import ModelFailed, StoreFailed
from ..domain.gateway import Gateway
from ..domain.model_calls import ModelTarget
from ..domain.ports import Clock, CurrentSettings, ModelClient, SessionStore
from .readiness import Readiness

logger = logging.getLogger(__name__)

_PRUNE_EVERY = 3_600.0


class Lock(Protocol):
    """Held while this process owns the state directory."""

    def acquire(self) -> None: ...

    def release(self) -> None: ...


Background = Callable[[], Coroutine[Any, Any, None]]
"""Something that runs until it is cancelled."""


class Lifecycle:
    """Starts and stops what the Gateway needs, in order; `stop` undoes what `start` did.

    `prepare` makes models ready that take time to start.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        settings: CurrentSettings,
        lock: Lock,
        store: SessionStore,
        models: Mapping[str, ModelClient],
        prepare: Callable[[ModelTarget], Awaitable[None]],
        readiness: Readiness,
        clock: Clock,
        background: Iterable[Background] = (),
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._lock = lock
        self._store = store
        self._models = models
        self._prepare = prepare
        self._readiness = readiness
        self._clock = clock
        self._background = (readiness.watch, self._prune, self._prepare_models, *background)
        self._tasks: list[asyncio.Task[None]] = []
        self._drain: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()
        self.failure: Exception | None = None
        """Why `start` failed: servers tell of it in their own words only."""

    async def start(self) -> None:
        """Raises what keeps the Gateway from starting, with nothing left behind."""
        try:
            async with AsyncExitStack() as stack:
                self._lock.acquire()
                stack.callback(self._lock.release)
                await self._store.open()
                stack.push_async_callback(self._store.close)
                for client in self._models.values():
                    stack.push_async_callback(client.close)
                for run in self._background:
                    self._tasks.append(asyncio.create_task(_guarded(run)))
                stack.push_async_callback(self._end_tasks)
                self._stack = stack.pop_all()
        except Exception as error:
            self.failure = error
            raise

    def begin_drain(self) -> float:
        """Take no more runs, and let those there finish for the seconds that it returns."""
        grace = self._settings().shutdown_grace
        if self._drain is None:
            self._readiness.draining = True
            self._drain = asyncio.create_task(self._gateway.drain(grace))
        return grace

    async def stop(self) -> None:
        """Drain, then let go of everything in the opposite order of `start`."""
        self.begin_drain()
        if self._drain is not None:
            await self._drain
        await self._stack.aclose()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _prune(self) -> None:
        """Delete the sessions of stateless requests once their time is over."""
        while True:
            keep = self._settings().sessions.one_off_retention
            if keep is not None:
                await self._prune_older_than(keep)
            await asyncio.sleep(_PRUNE_EVERY)

    async def _prune_older_than(self, keep: float) -> None:
        try:
            deleted = await self._store.prune_one_off(self._clock() - keep)
        except StoreFailed as error:
            logger.warning("one-off sessions not deleted", extra={"reason": error.message})
        else:
            if deleted:
                logger.info("one-off sessions deleted", extra={"sessions": deleted})

    async def _prepare_models(self) -> None:
        targets = {t.ref: t for agent in self._settings().agents for t in agent.models}
        for target in targets.values():
            try:
                await self._prepare(target)
            except ModelFailed as failure:
                extra = {"model": target.ref, "reason": failure.message}
                logger.warning("a model is not ready", extra=extra)


async def _guarded(run: Background) -> None:
    """The outermost edge of a background task: a failure is told, and ends that task alone."""
    try:
        await run()
    except Exception:
        logger.exception("a background task failed", extra={"task": run.__qualname__})
