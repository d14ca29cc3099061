"""What runs beside the requests: from the lock on the state directory to the last commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from ..adapters.python_agents import PythonAgents
from ..adapters.transports import Transport
from ..adapters.transports.control.broadcast import HEALTH_SECONDS, NODES_SECONDS, TICK_SECONDS
from ..adapters.transports.model_server import ModelServer
from ..domain.errors import ModelFailed, StoreFailed
from ..domain.execution import Executor
from ..domain.models import ModelTarget
from ..domain.ports import (
    CurrentSettings,
    Embedder,
    KeyBook,
    ModelClient,
    NodeDirectory,
    NodeInfo,
    RunEvents,
    SessionStore,
    Toolbox,
)
from ..domain.services import (
    CHECK_SECONDS,
    EXPIRY_SECONDS,
    RENEWAL_SECONDS,
    Approvals,
    Devices,
    Gateway,
    Keys,
    Quotas,
    Responses,
    ToolService,
)
from ..domain.settings import LoggingSettings, NodeRole, Settings
from . import descriptors
from .abilities import LOOK_SECONDS as ABILITIES_SECONDS
from .abilities import Abilities
from .configurations import COMPARE_SECONDS, Configurations
from .readiness import Readiness
from .reloads import ConfigureLogging, Reloads
from .shared_configuration import LOOK_SECONDS, ConfigurationWatch
from .supervisor import Supervisor

logger = logging.getLogger(__name__)

_PRUNE_EVERY = 3_600.0
_SUMMARISE_EVERY = 60.0
_DESCRIPTORS_EVERY = 5.0
_EXPIRE_EVERY = 5.0
"""Seconds between two looks at approvals that nobody has decided."""


class Lock(Protocol):
    """Held while this process owns the state directory."""

    def acquire(self) -> None: ...

    def announce(self, address: str) -> None: ...

    def release(self) -> None: ...


class Control(Protocol):
    """The control plane, as far as it has to be started and stopped."""

    async def tick(self) -> None: ...

    async def broadcast_health(self) -> None: ...

    async def look_at_other_nodes(self) -> None: ...

    def begin_shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stopping:
    """The times of a stop, in seconds: for `linger`, requests are answered as before; then, for
    `grace`, runs may finish."""

    linger: float
    grace: float

    @classmethod
    def by(cls, settings: Settings) -> Stopping:
        """Only where other nodes of a shared database answer the clients that leave are clients and
        load balancers given time. A worker has none."""
        is_left_for_others = (
            settings.store.url is not None and settings.node.role is not NodeRole.WORKER
        )
        return cls(
            linger=settings.shutdown_linger if is_left_for_others else 0.0,
            grace=settings.shutdown_grace,
        )


Watch = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Follows changes of the configuration until the event is set."""

Prepare = Callable[[ModelTarget], Awaitable[object]]
"""Makes a model ready before it is first asked. Raises ModelFailed."""


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
        run_events: RunEvents,
        executor: Executor,
        devices: Devices,
        keys: Keys,
        key_book: KeyBook,
        quotas: Quotas,
        approvals: Approvals,
        responses: Responses,
        control: Control,
        models: Mapping[str, ModelClient],
        embedders: Mapping[str, Embedder],
        toolbox: Toolbox,
        tools: ToolService,
        prepare: Mapping[str, Prepare],
        python_agents: PythonAgents,
        model_server: ModelServer,
        readiness: Readiness,
        supervisor: Supervisor,
        configure_logging: ConfigureLogging,
        summarise_log: Callable[..., None],
        reloads: Reloads,
        watch: Watch,
        nodes: NodeDirectory,
        node_info: Callable[[], NodeInfo],
        abilities: Abilities,
        configuration_watch: ConfigurationWatch | None,
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._lock = lock
        self._store = store
        self._run_events = run_events
        self._executor = executor
        self._devices = devices
        self._keys = keys
        self._key_book = key_book
        self._quotas = quotas
        self._approvals = approvals
        self._responses = responses
        self._control = control
        self._models = models
        self._embedders = embedders
        self._toolbox = toolbox
        self._tools = tools
        self._prepare = prepare
        self._python_agents = python_agents
        self._model_server = model_server
        self._readiness = readiness
        self._supervisor = supervisor
        self._configure_logging = configure_logging
        self._log_summary = summarise_log
        self._reloads = reloads
        self._watch = watch
        self._nodes = nodes
        self._configuration_watch = configuration_watch
        self._configurations = Configurations(nodes.list)
        self._node_info = node_info
        self._abilities = abilities
        self._stop_watching = asyncio.Event()
        self._logged_as: LoggingSettings | None = None
        self._drain: asyncio.Task[None] | None = None
        self._transports: Sequence[Transport] = ()
        self._serving = AsyncExitStack()
        """Stops the transports that were started."""
        self._stack = AsyncExitStack()
        self._started = False

    def serve(self, transports: Sequence[Transport]) -> None:
        """Start and stop these too. Without a call of this, as for a single turn of the command
        line, no transport is started."""
        self._transports = transports

    @property
    def settings(self) -> Settings:
        """The settings in force now."""
        return self._settings()

    async def start(self) -> None:
        """Raises what keeps the Gateway from starting; it may be started again once that is mended.

        Does nothing once it has started: the host of the application starts it first, because it
        can report a failure in a sentence, where a server reports that the lifespan failed.
        Raises RuntimeError after `stop`: parts that were closed are not opened again.
        """
        if self._drain is not None:
            raise RuntimeError("This Gateway was stopped: make another one of a new container.")
        if self._started:
            return
        self._started = True
        try:
            await self._start()
        except BaseException:
            self._started = False
            raise

    async def _start(self) -> None:
        async with AsyncExitStack() as stack:
            self._lock.acquire()
            stack.callback(self._lock.release)
            stack.callback(self._log_summary, final=True)
            await self._store.open()
            stack.push_async_callback(self._store.close)
            stack.push_async_callback(self._run_events.close)
            await self._run_events.start()
            await self._abilities.look()
            await self._nodes.join(self._node_info)
            stack.push_async_callback(self._nodes.leave)
            stack.push_async_callback(self._devices.close)
            await self._devices.open()
            stack.push_async_callback(self._key_book.close)
            stack.push_async_callback(self._keys.close)
            await self._keys.open()
            await self._quotas.open()
            stack.push_async_callback(self._quotas.flush)
            stack.push_async_callback(self._approvals.close)
            await self._approvals.open()
            await self._recover()
            stack.push_async_callback(self._serving.aclose)
            for transport in self._transports:
                await transport.start()
                self._serving.push_async_callback(transport.stop)
            # Nothing below fails: models and tasks that were closed are not opened again.
            for client in self._models.values():
                stack.push_async_callback(client.close)
            for embedder in self._embedders.values():
                stack.push_async_callback(embedder.close)
            stack.push_async_callback(self._toolbox.close)
            stack.push_async_callback(self._model_server.close)
            stack.push_async_callback(self._python_agents.close)
            self._begin_tasks()
            stack.push_async_callback(self._end_tasks)
            self._stack = stack.pop_all()

    def begin_leaving(self) -> Stopping:
        """Be not ready from now on, and serve on, until `begin_drain`."""
        self._readiness.draining = True
        return Stopping.by(self._settings())

    def begin_drain(self) -> None:
        """Take no more runs, and let those there finish for `gateway.shutdown.graceSeconds`."""
        grace = self._settings().shutdown_grace
        if self._drain is None:
            self._readiness.draining = True
            self._control.begin_shutdown()
            self._drain = asyncio.create_task(self._drain_runs(grace))

    async def stop(self) -> None:
        """Drain, then close everything in the opposite order of `start`; nothing if not started."""
        if not self._started:
            return
        self.begin_drain()
        try:
            if self._drain is not None:
                await self._drain
        finally:
            await self._stack.aclose()

    async def _drain_runs(self, grace: float) -> None:
        """Connections stay until the runs have ended, so that clients get their last events."""
        await asyncio.gather(self._gateway.drain(grace), self._tools.drain(grace))
        await self._serving.aclose()

    async def _recover(self) -> None:
        recovered = await self._executor.recover(go_on=bool(self._transports))
        if recovered:
            logger.warning("runs were interrupted when the Gateway died", extra={"runs": recovered})
        if self._transports:
            await self._approvals.recover()

    def _begin_tasks(self) -> None:
        supervisor, control = self._supervisor, self._control
        self._logged_as = self._settings().logging
        supervisor.run("event loop watch", self._readiness.watch)
        supervisor.run("configuration files", self._watch_files)
        supervisor.run("configuration changes", self._keep_up)
        supervisor.every("pruning", _PRUNE_EVERY, self._prune, at_once=True)
        supervisor.every("expiry of pairing requests", EXPIRY_SECONDS, self._expire_pairing)
        supervisor.every("expiry of approvals", _EXPIRE_EVERY, self._expire_approvals)
        supervisor.every("summaries of the log", _SUMMARISE_EVERY, self._summarise_log)
        supervisor.every("file descriptors", _DESCRIPTORS_EVERY, descriptors.watch)
        supervisor.every("grants", CHECK_SECONDS, self._check_grants)
        supervisor.every("changes of other nodes", RENEWAL_SECONDS, self._renew_copies)
        supervisor.every("ticks", TICK_SECONDS, control.tick)
        supervisor.every("health events", HEALTH_SECONDS, control.broadcast_health)
        if (shared := self._configuration_watch) is not None:
            supervisor.every("shared configuration", LOOK_SECONDS, shared.look, at_once=True)
        supervisor.every("configurations", COMPARE_SECONDS, self._configurations.compare)
        supervisor.every("abilities", ABILITIES_SECONDS, self._abilities.look)
        supervisor.every("events of other nodes", NODES_SECONDS, control.look_at_other_nodes)

    async def _summarise_log(self) -> None:
        """Log how many lines were left out of it, also when no further one comes."""
        self._log_summary()

    async def _expire_pairing(self) -> None:
        try:
            await self._devices.expire()
        except StoreFailed as error:
            logger.warning("pairing requests were not expired", extra={"reason": error.message})

    async def _expire_approvals(self) -> None:
        try:
            await self._approvals.expire()
        except StoreFailed as error:
            logger.warning("approvals were not expired", extra={"reason": error.message})

    async def _check_grants(self) -> None:
        self._gateway.access.check()

    async def _renew_copies(self) -> None:
        """Messages between nodes can be lost."""
        try:
            await self._keys.renew()
            await self._devices.renew()
        except StoreFailed as error:
            logger.warning("changes of other nodes were not read", extra={"reason": error.message})

    async def _end_tasks(self) -> None:
        self._stop_watching.set()
        await self._supervisor.close()

    async def _prune(self) -> None:
        """Delete the sessions of stateless requests, and stored responses, once their time is over,
        or they are too much."""
        sessions = self._settings().sessions
        await self._prune_beyond(sessions.one_off_retention, sessions.one_off_max_bytes)
        try:
            deleted = await self._responses.prune()
        except StoreFailed as error:
            logger.warning("responses not deleted", extra={"reason": error.message})
        else:
            if deleted:
                logger.info("responses deleted", extra={"responses": deleted})

    async def _prune_beyond(self, keep: float | None, max_bytes: int | None) -> None:
        try:
            deleted = await self._store.prune_one_off(keep, max_bytes)
        except StoreFailed as error:
            logger.warning("one-off sessions not deleted", extra={"reason": error.message})
        else:
            if deleted:
                logger.info("one-off sessions deleted", extra={"sessions": deleted})

    async def _watch_files(self) -> None:
        await self._watch(self._stop_watching)

    async def _keep_up(self) -> None:
        """Do what a configuration asks for beyond being read, now and after each change.

        All of it each time, so that a failure on the way loses nothing of a change.
        """
        while True:
            self._gateway.access.check()
            if self._settings().logging != self._logged_as:
                self._logged_as = self._settings().logging
                self._log_as(self._logged_as)
            self._python_agents.configure(self._settings().agents)
            await self._prepare_models()
            await self._reloads.applied()

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
