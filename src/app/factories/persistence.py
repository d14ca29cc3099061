"""The stores: in a shared database, in files or in memory, as the configuration says."""

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
    OneNode,
    SingleNode,
)
from ...adapters.persistence.sqlite.keys import KEYS_FILE, SqliteKeys
from ...adapters.persistence.sqlite.runs import SqliteRunEvents
from ...adapters.persistence.sqlite.sessions import SqliteApprovals, SqliteResponses, SqliteStore
from ...adapters.system.files import DeviceFile, MemoryDeviceBook, StateLock, WorkspaceFiles
from ...domain.errors import StoreFailed
from ...domain.ports import (
    ApprovalBook,
    Clock,
    CurrentSettings,
    DeviceBook,
    KeyBook,
    NewId,
    NodeBus,
    NodeDirectory,
    ResponseBook,
    RunEvents,
    SessionCatalog,
    SessionStore,
    Workspaces,
)
from ..lifecycle import Lock
from ..server_clock import ServerClock
from ..shared import DRIVER_MISSING, SharedStores, is_driver


def shared(
    settings: CurrentSettings, clock: Clock, monotonic: Clock, new_id: NewId
) -> SharedStores | None:
    """The stores in the database that several processes share; None: this process has its own.
    Raises StoreFailed where the driver is not installed."""
    url = settings().store.url
    if url is None:
        return None
    try:
        from .postgres import shared_stores
    except ModuleNotFoundError as error:
        if not is_driver(error):
            raise
        raise StoreFailed(DRIVER_MISSING) from error
    return shared_stores(url.reveal(), settings, clock=clock, monotonic=monotonic, node_id=new_id())


def clock(local_clock: Clock, settings: CurrentSettings) -> Clock:
    """The clock of the machine, or that of the database which several processes share."""
    return local_clock if settings().store.url is None else ServerClock(local_clock)


def bus(shared: SharedStores | None, new_id: NewId) -> NodeBus:
    return SingleNode(new_id()) if shared is None else shared.bus


def nodes(shared: SharedStores | None, clock: Clock) -> NodeDirectory:
    return OneNode(clock) if shared is None else shared.nodes


def store(
    settings: CurrentSettings, clock: Clock, monotonic: Clock, shared: SharedStores | None
) -> SessionStore:
    if shared is not None:
        return shared.store
    chosen = settings().store
    if chosen.memory:
        return MemoryStore(steady=monotonic)
    return SqliteStore(chosen.path, clock=clock, steady=monotonic)


def catalog(store: SessionStore) -> SessionCatalog:
    """The store itself, where it implements both ports."""
    return store if isinstance(store, SessionCatalog) else NoCatalog()


def stored_approvals(store: SessionStore, shared: SharedStores | None) -> ApprovalBook:
    """In the same database as the sessions."""
    if shared is not None:
        return shared.approvals
    return SqliteApprovals(store) if isinstance(store, SqliteStore) else MemoryApprovals()


def stored_responses(store: SessionStore, shared: SharedStores | None) -> ResponseBook:
    """In the same database as the sessions."""
    if shared is not None:
        return shared.responses
    return SqliteResponses(store) if isinstance(store, SqliteStore) else MemoryResponses()


def device_book(
    settings: CurrentSettings, locations: Locations, shared: SharedStores | None
) -> DeviceBook:
    if shared is not None:
        return shared.devices
    if settings().store.memory:
        return MemoryDeviceBook()
    return DeviceFile(locations.state_dir / "devices.json")


def key_book(
    settings: CurrentSettings, locations: Locations, shared: SharedStores | None
) -> KeyBook:
    if shared is not None:
        return shared.keys
    if settings().store.memory:
        return MemoryKeys()
    return SqliteKeys(locations.state_dir / KEYS_FILE)


def lock(locations: Locations, settings: CurrentSettings) -> Lock:
    chosen = settings().store
    path = Path(chosen.path)
    # The database may be a link into a directory that another state directory links to as well.
    no_file = chosen.memory or chosen.url is not None or not chosen.path
    directories = () if no_file else (path.resolve().parent,)
    return StateLock(locations.state_dir, store_dirs=directories)


def run_events(
    settings: CurrentSettings, clock: Clock, monotonic: Clock, shared: SharedStores | None
) -> RunEvents:
    """In the database of the sessions, in a file beside theirs, or in memory with them."""
    chosen = settings()
    if shared is not None:
        return shared.run_events
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
