"""What runs beside the requests: from the lock on the state directory to the last commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

from ..domain.devices import Devices
from ..domain.errors import ModelFailed, StoreFailed
from ..domain.gateway import Gateway
from ..domain.model_calls import ModelTarget
from ..domain.ports import (
    Clock,
    CurrentSettings,
    ModelClient,
    RunLog,
    SessionCatalog,
    SessionStore,
)
from ..domain.recovery import recover
from ..domain.settings import LoggingSettings, Settings
from .readiness import Readiness
from .reloads import ConfigureLogging, Reloads

logger = logging.getLogger(__name__)

_PRUNE_EVERY = 3_600.0


class Lock(Protocol):
    """Held while this process owns the state directory."""

    def acquire(self) -> None: ...

    def announce(self, address: str) -> None: ...

    def release(self) -> None: ...


class Control(Protocol):
    """The control plane, as far as it has to be started and stopped."""

    async def run(self) -> None: ...

    def auth_changed(self) -> None: ...

    def begin_shutdown(self) -> None: ...

    async def close(self) -> None: ...


Watch = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Follows changes of the configuration until the event is set."""

Prepare = Callable[[ModelTarget], Awaitable[None]]
"""Makes a model ready before it is first asked. Raises ModelFailed."""

_Background = Callable[[], Coroutine[Any, Any, None]]


class Lifecycle:
    """Starts and stops what the Gateway needs, in order; `stop` undoes what `start` did.

    `prepare` holds, by the name of an API, how models that take time to start are made ready.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        settings: CurrentSettings,
        lock: Lock,
        store: SessionStore,
        catalog: SessionCatalog,
        run_log: RunLog,
        devices: Devices,
        control: Control,
        models: Mapping[str, ModelClient],
        prepare: Mapping[str, Prepare],
        readiness: Readiness,
        clock: Clock,
        configure_logging: ConfigureLogging,
        reloads: Reloads,
        watch: Watch,
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._lock = lock
        self._store = store
        self._catalog = catalog
        self._run_log = run_log
        self._devices = devices
        self._control = control
        self._models = models
        self._prepare = prepare
        self._readiness = readiness
        self._clock = clock
        self._configure_logging = configure_logging
        self._reloads = reloads
        self._watch = watch
        self._stop_watching = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._drain: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()
        self._started = False

    @property
    def settings(self) -> Settings:
        """The settings in force now."""
        return self._settings()

    async def start(self) -> None:
        """Raises what keeps the Gateway from starting, with nothing left behind.

        Does nothing once it has started: who hosts the application starts it first, and can tell
        of a failure in its own words, where a server would say that its lifespan failed.
        """
        if self._started:
            return
        self._started = True
        async with AsyncExitStack() as stack:
            self._lock.acquire()
            stack.callback(self._lock.release)
            await self._store.open()
            stack.push_async_callback(self._store.close)
            stack.push_async_callback(self._run_log.close)
            await self._run_log.start()
            await self._recover()
            await self._devices.open()
            for client in self._models.values():
                stack.push_async_callback(client.close)
            self._begin_tasks()
            stack.push_async_callback(self._end_tasks)
            self._stack = stack.pop_all()

    def begin_drain(self) -> float:
        """Take no more runs, and let those there finish for the seconds that it returns."""
        grace = self._settings().shutdown_grace
        if self._drain is None:
            self._readiness.draining = True
            self._control.begin_shutdown()
            self._drain = asyncio.create_task(self._drain_runs(grace))
        return grace

    async def stop(self) -> None:
        """Drain, then let go of everything in the opposite order of `start`."""
        self.begin_drain()
        if self._drain is not None:
            await self._drain
        await self._stack.aclose()

    async def _drain_runs(self, grace: float) -> None:
        """Connections stay until the runs have ended, so that nobody misses how they did."""
        await self._gateway.drain(grace)
        await self._control.close()

    async def _recover(self) -> None:
        recovered = await recover(self._run_log, self._catalog)
        if recovered:
            logger.warning("runs were interrupted when the Gateway died", extra={"runs": recovered})

    def _begin_tasks(self) -> None:
        for run in (
            self._readiness.watch,
            self._prune,
            self._keep_up,
            self._watch_files,
            self._devices.watch,
            self._control.run,
        ):
            self._tasks.append(asyncio.create_task(_guarded(run)))

    async def _end_tasks(self) -> None:
        self._stop_watching.set()
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

    async def _watch_files(self) -> None:
        await self._watch(self._stop_watching)

    async def _keep_up(self) -> None:
        """Do what a configuration asks for beyond being read, now and after each change."""
        logging_settings = self._settings().logging
        while True:
            await self._prepare_models()
            await self._reloads.applied()
            self._control.auth_changed()
            if self._settings().logging != logging_settings:
                logging_settings = self._settings().logging
                self._log_as(logging_settings)

    def _log_as(self, settings: LoggingSettings) -> None:
        try:
            self._configure_logging(settings)
        except OSError as error:
            logger.error("the log file cannot be opened", extra={"reason": str(error)})  # noqa: TRY400

    async def _prepare_models(self) -> None:
        targets = {t.ref: t for agent in self._settings().agents for t in agent.models}
        for target in targets.values():
            prepare = self._prepare.get(target.provider.api)
            if prepare is None:
                continue
            try:
                await prepare(target)
            except ModelFailed as failure:
                extra = {"model": target.ref, "reason": failure.message}
                logger.warning("a model is not ready", extra=extra)


async def _guarded(run: _Background) -> None:
    """The outermost edge of a background task: a failure is told, and ends that task alone."""
    try:
        await run()
    except Exception:
        logger.exception("a background task failed", extra={"task": run.__qualname__})
