"""The stores of a Gateway of several processes, in PostgreSQL.

Imported only where the configuration has a database: the driver is an optional dependency.
"""

from __future__ import annotations

from ...adapters.persistence.postgres import (
    Database,
    PostgresBus,
    PostgresConfigurations,
    PostgresDevices,
    PostgresKeys,
    PostgresLimits,
    PostgresNodes,
    PostgresPresence,
)
from ...adapters.persistence.postgres.runs import PostgresQueue, PostgresRunEvents
from ...adapters.persistence.postgres.sessions import (
    PostgresApprovals,
    PostgresResponses,
    PostgresStore,
)
from ...domain.ports import Clock, CurrentSettings
from ...domain.settings import NodeRole
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
    queue = PostgresQueue(
        events,
        limits=lambda: settings().lanes,
        lease=chosen.node.lease,
        works=chosen.node.role is not NodeRole.GATEWAY,
    )
    store = PostgresStore(database)
    return SharedStores(
        store=store,
        catalog=store,
        approvals=PostgresApprovals(database),
        responses=PostgresResponses(database),
        devices=PostgresDevices(database),
        keys=PostgresKeys(database),
        limits=PostgresLimits(database, steady=monotonic),
        run_events=events,
        queue=queue,
        bus=PostgresBus(events.bells, node_id),
        nodes=PostgresNodes(database, node_id, lease=chosen.node.lease, steady=monotonic),
        presence=PostgresPresence(database, node_id),
        configurations=PostgresConfigurations(database),
    )
