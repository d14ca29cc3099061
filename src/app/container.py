"""The composition root: every adapter is named here, once, beside the port that it fits.

The annotation `Provider[Port]` is the proof: the type checker refuses an adapter of another
shape at that line. Tests put their own in place by argument: `Container(store=Object(fake))`.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dependency_injector.containers import DeclarativeContainer
from dependency_injector.providers import Callable as Call
from dependency_injector.providers import Dict, Factory, Object, Provider, Singleton
from quart import Blueprint

from ..adapters.config import ConfigEditor, ConfigSource, Inputs, Locations, Overrides, locate
from ..adapters.models.local import LocalModels
from ..adapters.models.openai_completions import OpenAICompletions
from ..adapters.models.scripted import Scripted
from ..adapters.runners.echo import EchoRunner
from ..adapters.stores.memory import MemoryStore
from ..adapters.stores.no_catalog import NoCatalog
from ..adapters.stores.run_log import MemoryRunLog
from ..adapters.stores.run_log_live import Bounds
from ..adapters.stores.sqlite import SqliteStore
from ..adapters.stores.sqlite_run_log import SqliteRunLog
from ..adapters.system.device_file import DeviceFile, MemoryDeviceBook
from ..adapters.system.ids import clock as system_clock
from ..adapters.system.ids import new_id as fresh_id
from ..adapters.system.log_ring import LogRing
from ..adapters.system.logs import configure
from ..adapters.system.signatures import verify_signature
from ..adapters.system.state_lock import StateLock
from ..adapters.system.token_file import TokenFile
from ..adapters.system.workspace_files import WorkspaceFiles
from ..adapters.transports import health, openai_chat
from ..adapters.transports.control.hello import Facts
from ..adapters.transports.control.needs import Needs
from ..adapters.transports.control.plane import ControlPlane
from ..domain.configuration import ConfigFile
from ..domain.cooldowns import Cooldowns
from ..domain.devices import DeviceBook, Devices
from ..domain.dispatch import LocalDispatcher
from ..domain.gateway import Gateway
from ..domain.lanes import Lanes
from ..domain.lockout import Lockout
from ..domain.loop import AgentLoop
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
from ..domain.session_desk import SessionDesk
from ..domain.settings import LaneSettings
from ..domain.workspaces import Workspaces
from . import plugins
from .cli.version import version
from .lifecycle import Lifecycle, Lock, Watch
from .readiness import Readiness
from .reloads import ConfigureLogging, Reloads


def _generated_token(state_dir: Path) -> str:
    return TokenFile(state_dir).read_or_create()


def _models_dir(locations: Locations) -> Path:
    return locations.state_dir / "models"


def _token_file(locations: Locations) -> TokenFile:
    return TokenFile(locations.state_dir)


def _source(inputs: Inputs, token_file: TokenFile, reloads: Reloads) -> ConfigSource:
    return ConfigSource.open(inputs, on_event=reloads, watched=[token_file.path])


def _current(source: ConfigSource) -> CurrentSettings:
    return source.current


def _watch(source: ConfigSource) -> Watch:
    return source.watch


def _store(settings: CurrentSettings) -> SessionStore:
    chosen = settings().store
    return MemoryStore() if chosen.memory else SqliteStore(chosen.path)


def _catalog(store: SessionStore) -> SessionCatalog:
    """The store itself, where it can tell what it holds."""
    return store if isinstance(store, SessionCatalog) else NoCatalog()


def _run_log(settings: CurrentSettings, clock: Clock) -> RunLog:
    """Beside the sessions; in memory where those are, too."""
    chosen = settings()
    if chosen.store.memory:
        # So long, and so many, may a client send the same request again.
        return MemoryRunLog(clock=clock, bounds=Bounds(finished=1_000, seconds=300.0))
    return SqliteRunLog(
        Path(chosen.store.path).with_name("runs.sqlite3"),
        clock=clock,
        keep_seconds=chosen.runs.keep_seconds,
        keep_bytes=chosen.runs.keep_bytes,
    )


def _device_book(settings: CurrentSettings, locations: Locations) -> DeviceBook:
    if settings().store.memory:
        return MemoryDeviceBook()
    return DeviceFile(locations.state_dir / "devices.json")


def _configure_logging(overrides: Overrides, ring: LogRing) -> ConfigureLogging:
    return partial(configure, verbose=overrides.verbose, ring=ring)


def _stop_process() -> None:
    """What a supervisor would do."""
    os.kill(os.getpid(), signal.SIGTERM)


def _facts(locations: Locations, clock: Clock) -> Facts:
    return Facts(
        version=version(),
        host=socket.gethostname(),
        config_path=str(locations.config_path),
        state_dir=str(locations.state_dir),
        started_at=clock(),
    )


def _needs(
    *,
    settings: CurrentSettings,
    source: ConfigSource,
    readiness: Readiness,
    log_ring: LogRing,
    **parts: Any,
) -> Needs:
    store = settings().store
    return Needs(
        check=readiness.check,
        applied=lambda: source.loaded.sha256,
        read_log=log_ring.tail,
        log_file=lambda: settings().logging.file,
        store="memory" if store.memory else store.path,
        **parts,
    )


def _lock(locations: Locations) -> Lock:
    return StateLock(locations.state_dir)


def _lane_limits(settings: CurrentSettings) -> Callable[[], LaneSettings]:
    return lambda: settings().lanes


def _transports(
    gateway: Gateway,
    control: ControlPlane,
    readiness: Readiness,
    clock: Clock,
    settings: CurrentSettings,
    find_plugins: plugins.Find,
) -> list[Blueprint]:
    return [
        openai_chat.transport(gateway, started_at=clock()),
        health.transport(readiness.check),
        control.blueprint(),
        *plugins.transports(gateway, settings().transports, find_plugins),
    ]


class Container(DeclarativeContainer):
    """The Gateway's parts. Each is made when it is first asked for, once per container."""

    # What the process was started with.
    overrides: Provider[Overrides] = Object(Overrides())
    env: Provider[Mapping[str, str]] = Object(os.environ)
    home: Provider[Path] = Call(Path.home)
    log_ring: Provider[LogRing] = Singleton(LogRing)
    configure_logging: Provider[ConfigureLogging] = Singleton(
        _configure_logging, overrides, log_ring
    )
    stop_process: Provider[Callable[[], None]] = Object(_stop_process)
    clock: Provider[Clock] = Object(system_clock)
    monotonic: Provider[Clock] = Object(time.monotonic)
    new_id: Provider[NewId] = Object(fresh_id)

    # Models and runners: a new one is its own file, and one line here.
    locations: Provider[Locations] = Call(locate, env, overrides, home)
    openai: Provider[ModelClient] = Singleton(OpenAICompletions)
    local: Provider[ModelClient] = Singleton(
        LocalModels, inner=openai, models_dir=Call(_models_dir, locations)
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
    token_file: Provider[TokenFile] = Singleton(_token_file, locations)
    reloads: Provider[Reloads] = Singleton(Reloads)
    inputs: Provider[Inputs] = Factory(
        Inputs,
        env=env,
        home=home,
        overrides=overrides,
        generated_token=Object(_generated_token),
        runners=Call(plugins.runner_names, find_plugins),
    )
    source: Provider[ConfigSource] = Singleton(_source, inputs, token_file, reloads)
    settings: Provider[CurrentSettings] = Singleton(_current, source)

    # Where things are kept.
    store: Provider[SessionStore] = Singleton(_store, settings)
    catalog: Provider[SessionCatalog] = Singleton(_catalog, store)
    run_log: Provider[RunLog] = Singleton(_run_log, settings, clock)
    device_book: Provider[DeviceBook] = Singleton(_device_book, settings, locations)
    config_file: Provider[ConfigFile] = Singleton(ConfigEditor, inputs, locations)
    workspaces: Provider[Workspaces] = Singleton(
        WorkspaceFiles, Call(lambda locations: locations.state_dir, locations)
    )
    lock: Provider[Lock] = Singleton(_lock, locations)

    # The domain.
    lanes: Provider[Lanes] = Singleton(Lanes, Call(_lane_limits, settings))
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
    gateway: Provider[Gateway] = Singleton(
        Gateway,
        settings=settings,
        lockout=Singleton(Lockout, monotonic),
        dispatcher=dispatcher,
        run_log=run_log,
        catalog=catalog,
        clock=clock,
        new_id=new_id,
    )

    desk: Provider[SessionDesk] = Singleton(
        SessionDesk,
        settings=settings,
        store=store,
        catalog=catalog,
        dispatcher=dispatcher,
        clock=clock,
        new_id=new_id,
    )
    devices: Provider[Devices] = Singleton(
        Devices, book=device_book, clock=clock, verify=Object(verify_signature)
    )

    # The application.
    readiness: Provider[Readiness] = Singleton(Readiness, store=store)
    control: Provider[ControlPlane] = Singleton(
        ControlPlane,
        Singleton(
            _needs,
            gateway=gateway,
            desk=desk,
            devices=devices,
            config=config_file,
            workspaces=workspaces,
            settings=settings,
            source=source,
            readiness=readiness,
            log_ring=log_ring,
            stop=stop_process,
            facts=Singleton(_facts, locations, clock),
            clock=clock,
            new_id=new_id,
        ),
    )
    transports: Provider[list[Blueprint]] = Singleton(
        _transports, gateway, control, readiness, clock, settings, find_plugins
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
        clock=clock,
        configure_logging=configure_logging,
        reloads=reloads,
        watch=Call(_watch, source),
    )
