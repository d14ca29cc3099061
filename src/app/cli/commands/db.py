"""`opensoul db`: the PostgreSQL database that the processes of a Gateway share."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...terminal import echo, one_line, print_fields, print_table
from ..common.configuration import load_config, locations_of
from ..common.database import database_errors, database_settings, direct_url, url_of
from ..common.lazy import Group
from ..common.state import State, common_options, print_json

if TYPE_CHECKING:
    from ....adapters.persistence.postgres import DatabaseStatus
    from ..common.importing import Outcome

_UNITS = ("B", "kB", "MB", "GB", "TB")
_MOST_NAMES = 20
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


@db.subcommand("import")
@click.option(
    "--from",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The state directory to copy; default: that of this configuration.",
)
@click.option("--dry-run", is_flag=True, help="Compare only; the database is not changed.")
@click.option(
    "--skip-different",
    is_flag=True,
    help="Leave what differs as it is in the database, and copy the rest.",
)
def import_(state: State, directory: Path | None, dry_run: bool, skip_different: bool) -> int:
    """Copy the state directory of a Gateway into the database.

    Sessions with their transcripts, open turns, approvals, responses, conversations, runs with
    their events, API keys with their usage, and paired devices. The directory is only read; files
    of an older version are brought to this one first, as at the start of a Gateway. A call that was
    interrupted goes on where it was, and another one changes nothing. What is in the database with
    another content is named and not overwritten. At the end everything is read back and compared.
    """
    from ..common.importing import import_state

    settings = load_config(state).settings
    database_settings(state)
    outcome = import_state(
        settings,
        locations_of(state).state_dir if directory is None else directory,
        Path(settings.store.path).name,
        dry_run=dry_run,
        skip_different=skip_different,
        on_progress=None if state.json else _progress(),
    )
    if state.json:
        print_json(outcome.described())
    else:
        _print_outcome(outcome, dry_run=dry_run)
    return 0 if outcome.complete else 1


def size(number: int) -> str:
    """A number of bytes for people."""
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return (
        f"{value:.0f} {_UNITS[unit]}" if value >= 10 or not unit else f"{value:.1f} {_UNITS[unit]}"
    )


def _progress() -> Callable[[str, int, int], None]:
    """Prints how far the copy is: at once, then once a second, and at the end of each kind."""
    printed = float("-inf")

    def report(name: str, done: int, total: int) -> None:
        nonlocal printed
        if done == total or time.monotonic() - printed >= 1.0:
            printed = time.monotonic()
            echo(f"{name}: {done} of {total} copied", err=True)

    return report


def _print_outcome(outcome: Outcome, *, dry_run: bool) -> None:
    columns = ("", "found", "there", "copied" if outcome.copied else "missing", "different")
    rows = [
        (kind.name, kind.total, kind.there, kind.missing, len(kind.different))
        for kind in outcome.kinds
        if kind.total
    ]
    print_table(columns, rows, empty="There is nothing in the state directory.")
    for kind in outcome.kinds:
        _print_names(f"{kind.name} that the database has with another content", kind.different)
        unreadable = [f"{name}: {why}" for name, why in kind.unreadable.items()]
        _print_names(f"{kind.name} that cannot be copied", unreadable)
        _print_names(f"{kind.name} that the comparison at the end has not found", kind.lacking)
    if outcome.copied and outcome.complete:
        echo("All of it is in the database, and was compared.")
    elif not outcome.copied and not outcome.complete:
        echo("Nothing was copied. --skip-different leaves these as they are and copies the rest.")
    elif dry_run:
        echo("Nothing was copied: --dry-run.")


def _print_names(title: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        echo(f"\n{title}:", err=True)
        for name in names[:_MOST_NAMES]:
            echo(f"  {one_line(name)}", err=True)
        if more:
            echo(f"  {more.strip()}", err=True)


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
