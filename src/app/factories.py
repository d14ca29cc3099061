"""How the container makes what needs more than a constructor: each from what it is asked for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from quart import Blueprint

from ..adapters.config import ConfigSource, Inputs, Locations, Overrides
from ..adapters.persistence.common import Bounds, NoCatalog
from ..adapters.persistence.memory import MemoryRunLog, MemoryStore
from ..adapters.persistence.sqlite.runs import SqliteRunLog
from ..adapters.persistence.sqlite.sessions import SqliteStore
from ..adapters.system.files import DeviceFile, MemoryDeviceBook, StateLock, TokenFile
from ..adapters.system.logging import LogBounds, LogRing, configure
from ..adapters.transports import health
from ..adapters.transports.control.dependencies import Dependencies
from ..adapters.transports.control.handshake import Facts
from ..adapters.transports.control.plane import ControlPlane
from ..adapters.transports.openai import chat as openai_chat
from ..domain.access import Lockout
from ..domain.ports import Clock, CurrentSettings, RunLog, SessionCatalog, SessionStore
from ..domain.ports.access import DeviceBook
from ..domain.services import Access, Devices, Gateway
from ..domain.settings import LaneSettings
from . import plugins
from .lifecycle import Lock, Watch
from .readiness import Readiness
from .reloads import ConfigureLogging, Reloads
from .version import version


def generated_token(state_dir: Path) -> str:
    return TokenFile(state_dir).read_or_create()


def models_dir(locations: Locations) -> Path:
    return locations.state_dir / "models"


def token_file(locations: Locations) -> TokenFile:
    return TokenFile(locations.state_dir)


def source(inputs: Inputs, token_file: TokenFile, reloads: Reloads) -> ConfigSource:
    return ConfigSource.open(inputs, on_event=reloads, watched=[token_file.path])


def current(source: ConfigSource) -> CurrentSettings:
    return source.current


def watch(source: ConfigSource) -> Watch:
    return source.watch


def store(settings: CurrentSettings, clock: Clock, steady: Clock) -> SessionStore:
    chosen = settings().store
    if chosen.memory:
        return MemoryStore(steady=steady)
    return SqliteStore(chosen.path, clock=clock, steady=steady)


def catalog(store: SessionStore) -> SessionCatalog:
    """The store itself, where it can tell what it holds."""
    return store if isinstance(store, SessionCatalog) else NoCatalog()


def run_log(settings: CurrentSettings, clock: Clock, steady: Clock) -> RunLog:
    """Beside the sessions; in memory where those are, too."""
    chosen = settings()
    if chosen.store.memory:
        # So long, and so many, may a client send the same request again.
        bounds = Bounds(finished=1_000, seconds=300.0)
        return MemoryRunLog(clock=clock, bounds=bounds, steady=steady)
    return SqliteRunLog(
        Path(chosen.store.path).with_name("runs.sqlite3"),
        clock=clock,
        steady=steady,
        keep_seconds=chosen.runs.keep_seconds,
        keep_bytes=chosen.runs.keep_bytes,
    )


def device_book(settings: CurrentSettings, locations: Locations) -> DeviceBook:
    if settings().store.memory:
        return MemoryDeviceBook()
    return DeviceFile(locations.state_dir / "devices.json")


def access(
    settings: CurrentSettings, lockout: Lockout, devices: Devices, find_plugins: plugins.Find
) -> Access:
    named = plugins.authenticators(settings().authenticators, find_plugins)
    return Access(settings=settings, lockout=lockout, devices=devices, plugins=named)


def configure_logging(overrides: Overrides, ring: LogRing, bounds: LogBounds) -> ConfigureLogging:
    return partial(configure, verbose=overrides.verbose, ring=ring, bounds=bounds)


def stop_process() -> None:
    """What a supervisor would do."""
    os.kill(os.getpid(), signal.SIGTERM)


def facts(locations: Locations, clock: Clock) -> Facts:
    return Facts(
        version=version(),
        host=socket.gethostname(),
        config_path=str(locations.config_path),
        state_dir=str(locations.state_dir),
        started_at=clock(),
    )


def needs(
    *,
    settings: CurrentSettings,
    source: ConfigSource,
    readiness: Readiness,
    log_ring: LogRing,
    **parts: Any,
) -> Dependencies:
    store = settings().store
    return Dependencies(
        check=readiness.check,
        applied=lambda: source.loaded.sha256,
        read_log=log_ring.tail,
        log_file=lambda: settings().logging.file,
        store="memory" if store.memory else store.path,
        **parts,
    )


def lock(locations: Locations, settings: CurrentSettings) -> Lock:
    chosen = settings().store
    path = Path(chosen.path)
    # The database may be a link into a directory that another state directory links to as well.
    directories = () if chosen.memory or not chosen.path else (path.resolve().parent,)
    return StateLock(locations.state_dir, store_dirs=directories)


def lane_limits(settings: CurrentSettings) -> Callable[[], LaneSettings]:
    return lambda: settings().lanes


def transports(
    gateway: Gateway,
    control: ControlPlane,
    readiness: Readiness,
    clock: Clock,
    settings: CurrentSettings,
    find_plugins: plugins.Find,
) -> list[Blueprint]:
    return [
        openai_chat.transport(gateway, started_at=clock()),
        health.transport(readiness.check, readiness.degraded),
        control.blueprint(),
        *plugins.transports(gateway, settings().transports, find_plugins),
    ]
