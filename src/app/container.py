"""The composition root: every adapter is named here, once, beside the port that it fits.

The annotation `Provider[Port]` is the proof: the type checker refuses an adapter of another
shape at that line. Tests put their own in place by argument: `Container(store=Object(fake))`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dependency_injector.containers import DeclarativeContainer
from dependency_injector.providers import Callable as Call
from dependency_injector.providers import Dict, Factory, Object, Provider, Singleton
from quart import Blueprint

from ..adapters.config import (
    ConfigEditor,
    ConfigSource,
    Inputs,
    Locations,
    Overrides,
    home_directory,
    locate,
)
from ..adapters.providers.local.client import LocalModels
from ..adapters.providers.openai import OpenAICompletions
from ..adapters.providers.scripted import Scripted
from ..adapters.runners.echo import EchoRunner
from ..adapters.system.files import TokenFile, WorkspaceFiles
from ..adapters.system.ids import clock as system_clock
from ..adapters.system.ids import new_id as fresh_id
from ..adapters.system.logging import LogBounds, LogRing
from ..adapters.system.signatures import verify_signature
from ..adapters.transports.control.plane import ControlPlane
from ..domain.access import Lockout
from ..domain.execution import AgentLoop, Lanes, LocalDispatcher
from ..domain.models import Cooldowns
from ..domain.ports import (
    AgentRunner,
    Clock,
    CurrentSettings,
    ModelClient,
    NewId,
    RunDispatcher,
    RunLog,
    SessionCatalog,
    SessionStore,
)
from ..domain.ports.access import DeviceBook
from ..domain.ports.configuration import ConfigFile
from ..domain.ports.workspaces import Workspaces
from ..domain.services import Access, Devices, Gateway, SessionService
from . import factories as making
from . import plugins
from .lifecycle import Lifecycle, Lock
from .readiness import Readiness
from .reloads import ConfigureLogging, Reloads
from .supervisor import Supervisor


class Container(DeclarativeContainer):
    """The Gateway's parts. Each is made when it is first asked for, once per container."""

    # What the process was started with.
    overrides: Provider[Overrides] = Object(Overrides())
    env: Provider[Mapping[str, str]] = Object(os.environ)
    home: Provider[Path | None] = Call(home_directory)
    log_ring: Provider[LogRing] = Singleton(LogRing)
    monotonic: Provider[Clock] = Object(time.monotonic)
    log_bounds: Provider[LogBounds] = Singleton(LogBounds, monotonic)
    configure_logging: Provider[ConfigureLogging] = Singleton(
        making.configure_logging, overrides, log_ring, log_bounds
    )
    stop_process: Provider[Callable[[], None]] = Object(making.stop_process)
    clock: Provider[Clock] = Object(system_clock)
    new_id: Provider[NewId] = Object(fresh_id)

    # Models and runners: a new one is its own file, and one line here.
    locations: Provider[Locations] = Call(locate, env, overrides, home)
    openai: Provider[ModelClient] = Singleton(OpenAICompletions)
    local: Provider[ModelClient] = Singleton(
        LocalModels, inner=openai, models_dir=Call(making.models_dir, locations)
    )
    scripted: Provider[ModelClient] = Singleton(Scripted)
    MODELS: dict[str, Provider[ModelClient]] = {
        "openai-completions": openai,
        "local": local,
        "scripted": scripted,
    }
    models: Provider[dict[Any, Any]] = Dict(MODELS)
    native: Provider[AgentRunner] = Singleton(
        AgentLoop, clients=models, cooldowns=Singleton(Cooldowns, monotonic)
    )
    echo: Provider[AgentRunner] = Singleton(EchoRunner)
    RUNNERS: dict[str, Provider[AgentRunner]] = {"native": native, "echo": echo}
    find_plugins: Provider[plugins.Find] = Object(plugins.installed)
    runners: Provider[Mapping[str, AgentRunner]] = Singleton(
        plugins.Runners, Dict(RUNNERS), find_plugins
    )

    # Configuration.
    token_file: Provider[TokenFile] = Singleton(making.token_file, locations)
    reloads: Provider[Reloads] = Singleton(Reloads)
    inputs: Provider[Inputs] = Factory(
        Inputs,
        env=env,
        home=home,
        overrides=overrides,
        generated_token=Object(making.generated_token),
        runners=Call(plugins.runner_names, find_plugins),
    )
    source: Provider[ConfigSource] = Singleton(making.source, inputs, token_file, reloads)
    settings: Provider[CurrentSettings] = Singleton(making.current, source)

    # Where things are kept.
    store: Provider[SessionStore] = Singleton(making.store, settings, clock, monotonic)
    catalog: Provider[SessionCatalog] = Singleton(making.catalog, store)
    run_log: Provider[RunLog] = Singleton(making.run_log, settings, clock, monotonic)
    device_book: Provider[DeviceBook] = Singleton(making.device_book, settings, locations)
    config_file: Provider[ConfigFile] = Singleton(ConfigEditor, inputs, locations)
    workspaces: Provider[Workspaces] = Singleton(
        WorkspaceFiles, Call(lambda locations: locations.state_dir, locations)
    )
    lock: Provider[Lock] = Singleton(making.lock, locations, settings)

    # The domain.
    lanes: Provider[Lanes] = Singleton(Lanes, Call(making.lane_limits, settings))
    dispatcher: Provider[RunDispatcher] = Singleton(
        LocalDispatcher,
        runners=runners,
        store=store,
        run_log=run_log,
        lanes=lanes,
        settings=settings,
        clock=clock,
        new_id=new_id,
    )
    devices: Provider[Devices] = Singleton(
        Devices, book=device_book, clock=clock, verify=Object(verify_signature)
    )
    access: Provider[Access] = Singleton(
        making.access, settings, Singleton(Lockout, monotonic), devices, find_plugins
    )
    gateway: Provider[Gateway] = Singleton(
        Gateway,
        settings=settings,
        access=access,
        dispatcher=dispatcher,
        run_log=run_log,
        catalog=catalog,
        clock=clock,
        new_id=new_id,
    )

    session_service: Provider[SessionService] = Singleton(
        SessionService,
        settings=settings,
        store=store,
        catalog=catalog,
        dispatcher=dispatcher,
        clock=clock,
        new_id=new_id,
    )

    # The application.
    supervisor: Provider[Supervisor] = Singleton(Supervisor)
    readiness: Provider[Readiness] = Singleton(
        Readiness, store=store, run_log=run_log, supervisor=supervisor
    )
    control: Provider[ControlPlane] = Singleton(
        ControlPlane,
        Singleton(
            making.needs,
            gateway=gateway,
            session_service=session_service,
            devices=devices,
            config=config_file,
            workspaces=workspaces,
            settings=settings,
            source=source,
            readiness=readiness,
            log_ring=log_ring,
            stop=stop_process,
            facts=Singleton(making.facts, locations, clock),
            clock=clock,
            new_id=new_id,
        ),
    )
    transports: Provider[list[Blueprint]] = Singleton(
        making.transports, gateway, control, readiness, clock, settings, find_plugins
    )
    prepare: Provider[dict[Any, Any]] = Dict(local=local.provided.prepare)
    lifecycle: Provider[Lifecycle] = Singleton(
        Lifecycle,
        gateway=gateway,
        settings=settings,
        lock=lock,
        store=store,
        catalog=catalog,
        run_log=run_log,
        devices=devices,
        control=control,
        models=models,
        prepare=prepare,
        readiness=readiness,
        supervisor=supervisor,
        configure_logging=configure_logging,
        summarise_log=log_bounds.provided.summarise,
        reloads=reloads,
        watch=Call(making.watch, source),
    )
