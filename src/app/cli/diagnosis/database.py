"""Checks of the PostgreSQL database that the nodes of a Gateway share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....domain.errors import StoreFailed
from ...shared import DRIVER_MISSING, is_driver
from ..common.database import direct_url, listed_nodes, url_of
from . import Finding

if TYPE_CHECKING:
    from ....adapters.persistence.postgres import DatabaseStatus
    from ....domain.settings import StoreSettings

_MOST_CLOCK_DIFFERENCE = 2.0
"""Seconds between the clocks of this machine and of the database."""
_RESERVED = 3
"""Connections that the server keeps for superusers, by default."""


async def database(settings: StoreSettings) -> list[Finding]:
    """What is wrong with the database of the configuration; nothing where it has none."""
    if settings.url is None:
        return []
    try:
        return [finding async for finding in _findings(settings)]
    except ModuleNotFoundError as error:
        if not is_driver(error):
            raise
        advice = "pip install 'opensoul[postgres]'"
        return [Finding("database_driver_missing", DRIVER_MISSING, advice)]
    except StoreFailed as error:
        advice = "No node starts, and none answers, without the database."
        return [Finding("database_unusable", error.message, advice)]


def unused_files(directory: Path, settings: StoreSettings) -> Iterator[str]:
    """A note for each database in files, which nobody uses where there is one in PostgreSQL."""
    if settings.url is None:
        return
    for name in ("opensoul.sqlite3", "runs.sqlite3", "keys.sqlite3"):
        if (directory / name).exists():
            yield (
                f"{directory / name} is not used, because the configuration has a database;"
                " `opensoul db import` copies it."
            )


async def _findings(settings: StoreSettings) -> AsyncIterator[Finding]:
    from ....adapters.persistence.postgres import database_status

    found = await database_status(url_of(settings))
    for finding in (*of_server(found), *_schema(found)):
        yield finding
    for finding in await _poolers(settings, found):
        yield finding
    if not found.pending:
        for finding in _nodes(await listed_nodes(url_of(settings)), found):
            yield finding


def of_server(found: DatabaseStatus) -> Iterator[Finding]:
    """What is wrong with the server, whatever is in the database."""
    if found.replica:
        yield Finding(
            "database_replica",
            f"The database at {found.host} is a replica, which only reads.",
            "Use the address of the primary, or name all hosts and add"
            " target_session_attrs=read-write.",
        )
    if found.encoding not in ("UTF8", "SQL_ASCII"):
        yield Finding(
            "database_encoding",
            f"The database {found.database} has the encoding {found.encoding}.",
            "Create one with UTF8, which has the characters of all languages:"
            " createdb --encoding UTF8 --template template0 NAME",
        )
    if abs(found.clock_ahead) > _MOST_CLOCK_DIFFERENCE:
        direction = "behind" if found.clock_ahead > 0 else "ahead of"
        yield Finding(
            "clock",
            f"The clock of this machine is {abs(found.clock_ahead):.1f} s {direction} that of the"
            " database.",
            "Set both by NTP. Nodes go by the database's clock, logs and TLS by this one.",
        )


def _schema(found: DatabaseStatus) -> Iterator[Finding]:
    if found.pending:
        yield Finding(
            "database_schema",
            f"Migrations of the database are pending: {', '.join(found.pending)}.",
            "Run `opensoul db migrate`; the next node that starts does the same.",
        )


async def _poolers(settings: StoreSettings, found: DatabaseStatus) -> list[Finding]:
    from ....adapters.persistence.postgres import are_one_database, pools_transactions

    direct = direct_url(settings)
    if not direct:
        if not found.pooled:
            return []
        return [
            Finding(
                "database_listen_url",
                "store.url is the address of a pooler in transaction mode, through which neither"
                " notifications nor prepared statements work.",
                "Set store.listenUrl to the address of the server itself; then statements through"
                " the pooler are not prepared.",
            )
        ]
    if await pools_transactions(direct):
        problem = "store.listenUrl is the address of a pooler in transaction mode, too."
    elif not await are_one_database(url_of(settings), direct):
        problem = "store.listenUrl leads to another database or schema than store.url."
    else:
        return []
    advice = "Set it to the address of the server itself, with the same database and schema."
    return [Finding("database_listen_url", problem, advice)]


def _nodes(nodes: list[dict[str, Any]], found: DatabaseStatus) -> Iterator[Finding]:
    from ....adapters.persistence.postgres import CONNECTIONS_OF_NODE

    alive = [node for node in nodes if node["alive"]]
    needed = CONNECTIONS_OF_NODE * max(1, len(alive))
    if not found.pooled and needed > found.max_connections - _RESERVED:
        yield Finding(
            "database_connections",
            f"{max(1, len(alive))} nodes open up to {needed} connections, and max_connections of"
            f" the server is {found.max_connections}.",
            "Raise max_connections, put a pooler in front (docs/scaling.md), or run fewer nodes.",
        )
    workers = [node for node in alive if node["role"] != "gateway"]
    unable = [node.get("unable", {}) for node in workers]
    for agent in sorted(set.intersection(*map(set, unable)) if unable else ()):
        reasons = [f"{node['name']}: {node['unable'][agent]}" for node in workers]
        yield Finding(
            "agent_without_node",
            f"No node can execute the agent {agent}. {' '.join(reasons)}",
            "Give one of the nodes what it lacks, or start one that has it.",
        )
    differing = [str(node["name"]) for node in alive if node["differs"]]
    if differing:
        yield Finding(
            "node_configurations",
            f"The configuration of these nodes is not that of the others: {', '.join(differing)}.",
            "Give all nodes the same file; `opensoul nodes` shows its digest on each.",
        )
