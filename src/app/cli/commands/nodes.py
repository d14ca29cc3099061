"""`opensoul nodes`: the processes of a Gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ...terminal import echo, print_table, when
from ..common.configuration import load_config
from ..common.database import database_errors, direct_url, listed_nodes, url_of
from ..common.state import State, print_json
from ..remote.reaching import READ, wire_options
from ..remote.rpc import call

_COLUMNS = (
    *("name", "role", "version", "host", "address", "started", "last heartbeat", "runs"),
    "configuration",
)
_HASH = 8
"""Characters of a digest of a configuration that are shown."""


@click.command()
@wire_options
@click.pass_obj
def nodes(state: State) -> None:
    """List the processes of the Gateway, and whether their configurations differ.

    They are read from the database of the configuration. With --url, and without a database, a
    running Gateway is asked.
    """
    rows = _rows(state)
    if state.json:
        print_json({"nodes": rows})
        return
    print_table(_COLUMNS, map(_cells, rows), empty="No node is running.")
    for line in _lacking(rows):
        echo(line, err=True)
    if any(row.get("differs") for row in rows):
        echo("* another configuration than most nodes have", err=True)


def _rows(state: State) -> Sequence[dict[str, Any]]:
    if "wire_url" not in state.options:
        store = load_config(state).settings.store
        if store.url is not None:
            with database_errors():
                return asyncio.run(listed_nodes(direct_url(store) or url_of(store)))
    from ....client.results import rows

    return rows(call(state, "gateway.nodes", scopes=READ), "nodes")


def _lacking(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    from ....client.results import node_info

    for info in map(node_info, rows):
        for agent, problem in sorted(info.unable.items()):
            yield f"{info.name} does not execute the agent {agent}: {problem}"


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    from ....client.results import node_info

    info = node_info(row)
    times = (when(info.started_at), f"{when(info.seen_at)}{'' if info.alive else ' (dead)'}")
    configuration = f"{info.configuration[:_HASH]}{' *' if info.differs else ''}"
    where = (info.name, info.role, info.version, info.host, info.address)
    return (*where, *times, info.runs, configuration)
