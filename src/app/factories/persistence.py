"""The stores: in files, or in memory where the configuration asks for that."""

from __future__ import annotations

from pathlib import Path

from ...adapters.config import Locations
from ...adapters.persistence.common import Bounds, NoCatalog
from ...adapters.persistence.memory import (
    MemoryApprovals,
    MemoryKeys,
    MemoryResponses,
    MemoryRunEvents,
    MemoryStore,
)
from ...adapters.persistence.sqlite.keys import KEYS_FILE, SqliteKeys
from ...adapters.persistence.sqlite.runs import SqliteRunEvents
from ...adapters.persistence.sqlite.sessions import SqliteApprovals, SqliteResponses, SqliteStore
from ...adapters.system.files import DeviceFile, MemoryDeviceBook, StateLock, WorkspaceFiles
from ...domain.ports import (
    ApprovalBook,
    Clock,
    CurrentSettings,
    DeviceBook,
    KeyBook,
    ResponseBook,
    RunEvents,
    SessionCatalog,
    SessionStore,
    Workspaces,
)
from ..lifecycle import Lock


def store(settings: CurrentSettings, clock: Clock, monotonic: Clock) -> SessionStore:
    chosen = settings().store
    if chosen.memory:
        return MemoryStore(steady=monotonic)
    return SqliteStore(chosen.path, clock=clock, steady=monotonic)


def catalog(store: SessionStore) -> SessionCatalog:
    """The store itself, where it implements both ports."""
    return store if isinstance(store, SessionCatalog) else NoCatalog()


def stored_approvals(store: SessionStore) -> ApprovalBook:
    """In the file of the sessions, where that is the SQLite store's."""
    return SqliteApprovals(store) if isinstance(store, SqliteStore) else MemoryApprovals()


def stored_responses(store: SessionStore) -> ResponseBook:
    """The same."""
    return SqliteResponses(store) if isinstance(store, SqliteStore) else MemoryResponses()


def device_book(settings: CurrentSettings, locations: Locations) -> DeviceBook:
    if settings().store.memory:
        return MemoryDeviceBook()
    return DeviceFile(locations.state_dir / "devices.json")


def key_book(settings: CurrentSettings, locations: Locations) -> KeyBook:
    if settings().store.memory:
        return MemoryKeys()
    return SqliteKeys(locations.state_dir / KEYS_FILE)


def lock(locations: Locations, settings: CurrentSettings) -> Lock:
    chosen = settings().store
    path = Path(chosen.path)
    # The database may be a link into a directory that another state directory links to as well.
    directories = () if chosen.memory or not chosen.path else (path.resolve().parent,)
    return StateLock(locations.state_dir, store_dirs=directories)


def run_events(run_log: MemoryRunEvents | SqliteRunEvents) -> RunEvents:
    return run_log


def run_log(
    settings: CurrentSettings, clock: Clock, monotonic: Clock
) -> MemoryRunEvents | SqliteRunEvents:
    """Beside the sessions; in memory where those are, too."""
    chosen = settings()
    if chosen.store.memory:
        # How long, and how many, idempotency keys are remembered.
        bounds = Bounds(finished=1_000, seconds=300.0)
        return MemoryRunEvents(clock=clock, bounds=bounds, steady=monotonic)
    return SqliteRunEvents(
        Path(chosen.store.path).with_name("runs.sqlite3"),
        clock=clock,
        steady=monotonic,
        keep_seconds=chosen.runs.keep_seconds,
        keep_bytes=chosen.runs.keep_bytes,
    )


def workspaces(locations: Locations) -> Workspaces:
    return WorkspaceFiles(locations.state_dir)
