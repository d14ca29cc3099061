"""The stores of a Gateway of several processes, in PostgreSQL.

Imported only where the configuration has a database: the driver is an optional dependency.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ...adapters.persistence.postgres import (
    Database,
    PostgresBus,
    PostgresCalls,
    PostgresConfigurations,
    PostgresDevices,
    PostgresHeartbeats,
    PostgresKeyCounters,
    PostgresKeys,
    PostgresLimits,
    PostgresMeter,
    PostgresNodes,
    PostgresPresence,
)
from ...adapters.persistence.postgres.runs import Bells, PostgresQueue, PostgresRunEvents
from ...adapters.persistence.postgres.sessions import (
    PostgresApprovals,
    PostgresResponses,
    PostgresSessionChanges,
    PostgresStore,
    PostgresSummaryLocks,
)
from ...domain.ports import Clock, CurrentSettings, KeyBook, NodeBus
from ...domain.settings import NodeRole
from ..server_clock import ServerClock
from ..shared import SharedStores


def shared_stores(
    url: str, settings: CurrentSettings, *, clock: Clock, monotonic: Clock, node_id: str
) -> SharedStores:
    """All of them over one pool. Raises StoreFailed for an address that cannot be read."""
    chosen = settings()
    listen_url = "" if chosen.store.listen_url is None else chosen.store.listen_url.reveal()
    database = Database(url, behind_pooler=bool(listen_url))
    events = PostgresRunEvents(
        database,
        clock=clock,
        steady=monotonic,
        keep_seconds=chosen.runs.keep_seconds,
        keep_bytes=chosen.runs.keep_bytes,
        listen_url=listen_url,
    )
    nodes = PostgresNodes(
        database,
        node_id,
        lease=chosen.node.lease,
        steady=monotonic,
        measure=clock.measure if isinstance(clock, ServerClock) else None,
    )
    queue = PostgresQueue(
        events,
        limits=lambda: settings().lanes,
        lease=chosen.node.lease,
        works=chosen.node.role is not NodeRole.GATEWAY,
        nodes=nodes,
    )
    store = PostgresStore(database)
    return SharedStores(
        store=store,
        catalog=store,
        summary_locks=PostgresSummaryLocks(database, node_id),
        approvals=PostgresApprovals(database),
        calls=PostgresCalls(database),
        responses=PostgresResponses(database),
        devices=PostgresDevices(database),
        keys=PostgresKeys(database),
        key_counters=PostgresKeyCounters(database, steady=monotonic),
        limits=PostgresLimits(database, steady=monotonic),
        run_events=events,
        queue=queue,
        watchers=queue.watchers,
        bus=PostgresBus(events.bells, node_id),
        nodes=nodes,
        presence=PostgresPresence(database, node_id),
        session_changes=PostgresSessionChanges(database, node_id),
        meter=PostgresMeter(events),
        configurations=PostgresConfigurations(database),
        heartbeats=PostgresHeartbeats(database),
    )


@asynccontextmanager
async def shared_keys(
    url: str, listen_url: str, node_id: str
) -> AsyncIterator[tuple[KeyBook, NodeBus]]:
    """The API keys, and the bus to the nodes, for a process that is no node. Raises StoreFailed."""
    async with AsyncExitStack() as stack:
        database = Database(url, connections=(1, 2), behind_pooler=bool(listen_url))
        await database.open()
        stack.push_async_callback(database.close)
        bells = Bells(database, listen_url)
        await bells.start()
        stack.push_async_callback(bells.close)
        yield PostgresKeys(database), PostgresBus(bells, node_id)
