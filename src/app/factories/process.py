"""The process: logging, facts, readiness and lifecycle."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial

from ...adapters.config import ConfigSource, Locations, Overrides
from ...adapters.providers.local.client import LocalModels
from ...adapters.python_agents import PythonAgents
from ...adapters.system.logging import LogBounds, LogRing, configure
from ...adapters.transports.control.handshake import Facts
from ...adapters.transports.control.plane import ControlPlane
from ...adapters.transports.model_server import ModelServer
from ...domain.execution import Executor
from ...domain.ports import (
    Clock,
    CurrentSettings,
    Embedder,
    KeyBook,
    ModelClient,
    NodeBus,
    NodeDirectory,
    NodeInfo,
    RunEvents,
    Sandbox,
    SessionStore,
    Toolbox,
)
from ...domain.services import Approvals, Devices, Gateway, Keys, Quotas, Responses, ToolService
from ..abilities import Abilities
from ..lifecycle import Lifecycle, Lock, Prepare
from ..readiness import Readiness
from ..reloads import ConfigureLogging, Reloads
from ..shared_configuration import ConfigurationWatch
from ..supervisor import Supervisor
from ..version import version


def configure_logging(
    overrides: Overrides, log_ring: LogRing, log_bounds: LogBounds
) -> ConfigureLogging:
    return partial(configure, verbose=overrides.verbose, ring=log_ring, bounds=log_bounds)


def log_bounds(monotonic: Clock) -> LogBounds:
    return LogBounds(monotonic)


def facts(locations: Locations, clock: Clock) -> Facts:
    return Facts(
        version=version(),
        host=socket.gethostname(),
        config_path=str(locations.config_path),
        state_dir=str(locations.state_dir),
        started_at=clock(),
    )


def stop_process() -> None:
    """Send this process the signal that a supervisor would send."""
    os.kill(os.getpid(), signal.SIGTERM)


def readiness(
    store: SessionStore,
    run_events: RunEvents,
    supervisor: Supervisor,
    python_agents: PythonAgents,
) -> Readiness:
    return Readiness(
        store=store,
        run_events=run_events,
        supervisor=supervisor,
        unavailable=python_agents.unavailable,
    )


def abilities(
    settings: CurrentSettings,
    local: LocalModels,
    sandbox: Sandbox,
    python_agents: PythonAgents,
) -> Abilities:
    return Abilities(settings, local, sandbox, python_agents)


def node_info(
    bus: NodeBus,
    settings: CurrentSettings,
    facts: Facts,
    executor: Executor,
    abilities: Abilities,
) -> Callable[[], NodeInfo]:
    """What this process shows of itself to the others."""

    def describe() -> NodeInfo:
        current = settings()
        return NodeInfo(
            id=bus.node_id,
            name=current.node.name,
            role=str(current.node.role),
            version=facts.version,
            host=facts.host,
            pid=os.getpid(),
            address=f"{current.listen.hosts[0]}:{current.listen.port}",
            configuration=current.generation,
            runs=len(executor),
            unable=abilities.unable,
        )

    return describe


def lifecycle(
    gateway: Gateway,
    settings: CurrentSettings,
    lock: Lock,
    store: SessionStore,
    executor: Executor,
    run_events: RunEvents,
    devices: Devices,
    keys: Keys,
    key_book: KeyBook,
    quotas: Quotas,
    approvals: Approvals,
    responses: Responses,
    control: ControlPlane,
    models: Mapping[str, ModelClient],
    embedders: Mapping[str, Embedder],
    toolbox: Toolbox,
    tool_service: ToolService,
    prepare: Mapping[str, Prepare],
    python_agents: PythonAgents,
    model_server: ModelServer,
    readiness: Readiness,
    supervisor: Supervisor,
    configure_logging: ConfigureLogging,
    log_bounds: LogBounds,
    reloads: Reloads,
    source: ConfigSource,
    nodes: NodeDirectory,
    node_info: Callable[[], NodeInfo],
    abilities: Abilities,
    configuration_watch: ConfigurationWatch | None,
) -> Lifecycle:
    return Lifecycle(
        gateway=gateway,
        settings=settings,
        lock=lock,
        store=store,
        executor=executor,
        run_events=run_events,
        devices=devices,
        keys=keys,
        key_book=key_book,
        quotas=quotas,
        approvals=approvals,
        responses=responses,
        control=control,
        models=models,
        embedders=embedders,
        toolbox=toolbox,
        tools=tool_service,
        prepare=prepare,
        python_agents=python_agents,
        model_server=model_server,
        readiness=readiness,
        supervisor=supervisor,
        configure_logging=configure_logging,
        summarise_log=log_bounds.summarise,
        reloads=reloads,
        watch=source.watch,
        nodes=nodes,
        node_info=node_info,
        abilities=abilities,
        configuration_watch=configuration_watch,
    )
