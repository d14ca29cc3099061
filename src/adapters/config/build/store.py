"""Builds the settings of the store, and of this process among those that share it."""

from __future__ import annotations

import socket

from ....domain.agents import AgentDirectory
from ....domain.models import Secret
from ....domain.settings import ListenSettings, NodeRole, NodeSettings, StoreSettings
from ..errors import guess
from ..locations import DATABASE_VARIABLE, first_set
from ..read import Building
from ..schema.fields import usable_secret

MEMORY_STORE = ":memory:"


def build_store(building: Building) -> StoreSettings:
    """The settings of the store."""
    in_session = building.config.session.store
    path = str(building.locations.store_path)
    url = _url(building)
    listen_url = building.config.store.listen_url
    if url is not None and in_session is not None:
        building.note("session.store has no effect: sessions are kept in the database.")
    elif in_session not in (None, MEMORY_STORE):
        building.note(
            f"session.store has no effect: sessions are kept in {path}; only "
            f'"{MEMORY_STORE}" has one.'
        )
    if listen_url is not None and url is None:
        building.report("has no effect without store.url", "store", "listenUrl")
    return StoreSettings(
        memory=url is None and in_session == MEMORY_STORE,
        path=path,
        url=url,
        listen_url=None if listen_url is None else Secret(listen_url),
    )


def build_node(
    building: Building, store: StoreSettings, listen: ListenSettings, agents: AgentDirectory
) -> NodeSettings:
    """The settings of this process."""
    node = building.config.node
    if node.role != "all" and store.url is None:
        building.report(
            f"must be `all` without a database that the processes share: set store.url or"
            f" {DATABASE_VARIABLE}",
            "node",
            "role",
        )
    if node.config == "database" and store.url is None:
        building.report(f"needs a database: set store.url or {DATABASE_VARIABLE}", "node", "config")
    name = node.name or f"{socket.gethostname()}:{listen.port}"
    if node.agents is not None and store.url is None:
        building.report(
            f"has no effect without a database that the processes share: set store.url or"
            f" {DATABASE_VARIABLE}",
            "node",
            "agents",
        )
    named = None if node.agents is None else frozenset(one.strip().lower() for one in node.agents)
    known = [agent.id for agent in agents]
    if not building.broken("agents"):
        for unknown in sorted((named or frozenset()) - set(known)):
            # No error: the configuration of all nodes may lose an agent that a file still names.
            building.note(
                f"node.agents names `{unknown}`, and there is no such agent{guess(unknown, known)}"
            )
    return NodeSettings(
        role=NodeRole(node.role),
        name=name,
        lease=float(node.lease_seconds),
        agents=named,
    )


def _url(building: Building) -> Secret | None:
    if building.broken("store", "url"):
        return None
    if building.config.store.url is not None:
        return Secret(building.config.store.url)
    text = first_set(building.env, DATABASE_VARIABLE)
    if text is None:
        return None
    try:
        return Secret(usable_secret(text))
    except ValueError as error:
        building.problems.variable(DATABASE_VARIABLE, str(error))
        return None
