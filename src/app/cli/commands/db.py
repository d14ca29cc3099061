"""`opensoul db`: the PostgreSQL database that the processes of a Gateway share."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ...terminal import echo, print_fields, print_table
from ..common.database import database_errors, database_settings, direct_url, url_of
from ..common.lazy import Group
from ..common.state import State, common_options, print_json

if TYPE_CHECKING:
    from ....adapters.persistence.postgres import DatabaseStatus

_UNITS = ("B", "kB", "MB", "GB", "TB")
_LISTEN = (
    "store.url is the address of a pooler in transaction mode, which passes no notifications on:"
    " set store.listenUrl to the address of the server itself."
)


@click.group(cls=Group)
@common_options
def db() -> None:
    """Migrate, inspect and fill the PostgreSQL database of several nodes.

    Its address is store.url of the configuration, or OPENSOUL_DATABASE_URL.
    """


@db.subcommand()
def migrate(state: State) -> None:
    """Run the pending migrations of the schema.

    A node does so at its start, too. Commands and nodes that migrate at the same time wait for one
    another; a second call changes nothing. The exit code is 0 where the schema is complete.
    """
    settings = database_settings(state)
    with database_errors():
        from ....adapters.persistence.postgres import migrate_database

        done = asyncio.run(migrate_database(direct_url(settings) or url_of(settings)))
    if state.json:
        print_json({"migrations": done})
        return
    for name in done:
        echo(f"migrated: {name}")
    if not done:
        echo("The schema is complete: no migration is pending.")


@db.subcommand()
def status(state: State) -> None:
    """Show server, schema, pending migrations, sizes and unfinished runs.

    Changes nothing, also in an empty database.
    """
    settings = database_settings(state)
    with database_errors():
        from ....adapters.persistence.postgres import database_status

        found = asyncio.run(database_status(url_of(settings)))
    needs_listen_url = found.pooled and not direct_url(settings)
    if state.json:
        print_json({**_camel_case(asdict(found)), "needsListenUrl": needs_listen_url})
        return
    print_fields(_fields(found))
    if needs_listen_url:
        echo(_LISTEN, err=True)
    if found.tables:
        echo()
        rows = [(table.name, size(table.bytes), table.rows) for table in found.tables]
        print_table(("table", "size", "rows (estimate)"), rows, empty="")


def size(number: int) -> str:
    """A number of bytes for people."""
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return (
        f"{value:.0f} {_UNITS[unit]}" if value >= 10 or not unit else f"{value:.1f} {_UNITS[unit]}"
    )


def _camel_case(fields: dict[str, object]) -> dict[str, object]:
    first_lower = re.compile(r"_(.)")
    return {first_lower.sub(lambda m: m[1].upper(), name): fields[name] for name in fields}


def _fields(found: DatabaseStatus) -> tuple[tuple[str, object], ...]:
    later = f", and {', '.join(map(str, found.later))} of a later version" if found.later else ""
    return (
        (
            "server",
            f"PostgreSQL {found.server} at {found.host}{' (replica)' if found.replica else ''}",
        ),
        ("database", f"{found.database} ({found.encoding}), schema {found.schema or '-'}"),
        ("user", found.user),
        ("schema version", f"{found.version} of {found.known}{later}"),
        ("pending", ", ".join(found.pending) or "none"),
        ("size", size(found.bytes)),
        ("connections", f"{found.connections} of {found.max_connections}"),
        ("clock", f"{found.clock_ahead:+.3f} s from this machine's"),
        ("pooler", "in transaction mode" if found.pooled else "none in transaction mode"),
        ("runs queued", found.queued),
        ("runs running", found.running),
        ("runs waiting", found.waiting),
    )
