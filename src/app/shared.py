"""All adapters that the processes of a Gateway share, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..domain.ports import (
    ApprovalBook,
    CallBook,
    ConfigurationBook,
    DeviceBook,
    HeartbeatBook,
    KeyBook,
    KeyCounters,
    Limits,
    Meter,
    NodeBus,
    NodeDirectory,
    PresenceBook,
    ResponseBook,
    RunCounter,
    RunEvents,
    RunQueue,
    RunSignals,
    SessionCatalog,
    SessionChanges,
    SessionStore,
    SummaryLocks,
    Watchers,
)

DRIVER_MISSING = (
    "The configuration has a database (store.url or OPENSOUL_DATABASE_URL), which needs the extra"
    " `postgres`: pip install 'opensoul[postgres]'."
)


def is_driver(error: ModuleNotFoundError) -> bool:
    """Whether it is the driver of PostgreSQL that is not installed."""
    return (error.name or "").partition(".")[0] in ("psycopg", "psycopg_pool")


class WorkQueue(RunQueue, RunSignals, RunCounter, Protocol):
    """The queue of a process, with its signals and counts."""

    @property
    def lease(self) -> float:
        """Seconds that a claim holds without being renewed."""
        ...

    @property
    def outage(self) -> float:
        """Seconds for which Runs go on while the queue cannot be reached."""
        ...


@dataclass(frozen=True, slots=True)
class SharedStores:
    """The adapters of a Gateway of several processes. All of them use one database, since some
    statements read or write the records of several of them."""

    store: SessionStore
    catalog: SessionCatalog
    summary_locks: SummaryLocks
    approvals: ApprovalBook
    calls: CallBook
    responses: ResponseBook
    devices: DeviceBook
    keys: KeyBook
    key_counters: KeyCounters
    limits: Limits
    run_events: RunEvents
    queue: WorkQueue
    watchers: Watchers
    bus: NodeBus
    nodes: NodeDirectory
    presence: PresenceBook
    session_changes: SessionChanges
    meter: Meter
    configurations: ConfigurationBook
    heartbeats: HeartbeatBook
