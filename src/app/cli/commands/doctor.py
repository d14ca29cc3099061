"""`opensoul doctor`: diagnoses an installation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from ...terminal import echo
from ..common.configuration import load_config, locations_of, needs_generated_token
from ..common.errors import CommandError
from ..common.state import State, common_options, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ....adapters.config import Loaded
    from ....domain.settings import StoreSettings
    from ..diagnosis import Finding


@click.command()
@click.option("--fix", is_flag=True, help="Make the repairs that are safe.")
@common_options
@click.pass_obj
def doctor(state: State, fix: bool) -> int:
    """Check configuration, secrets, permissions, providers, sandboxes, MCP servers, Python
    agents, packages, workspaces, port, store or database, and lock.

    Keys without an effect are listed as notes. The exit code is 1 if a problem remains; notes do
    not count.
    """
    found, notes = _found(state)
    outcomes = [(finding, fix and _repaired(finding)) for finding in found]
    if state.json:
        listed = [finding.described(fixed=fixed) for finding, fixed in outcomes]
        print_json({"ok": all(fixed for _, fixed in outcomes), "findings": listed, "notes": notes})
    else:
        _print(outcomes, fix)
        _print_notes(notes)
    return 0 if all(fixed for _, fixed in outcomes) else 1


def _found(state: State) -> tuple[list[Finding], tuple[str, ...]]:
    """The findings, and the notes of a valid configuration."""
    from ..diagnosis import database as database
    from ..diagnosis import files as files
    from ..diagnosis import python_agents as python_agents

    locations = locations_of(state)
    directory = locations.state_dir
    found = [*files.directory(directory), *files.lock(directory)]
    try:
        loaded = load_config(state)
    except CommandError as refused:
        found += files.configuration(refused)
        return [*found, *files.permissions(directory, [str(locations.config_path)])], ()
    if needs_generated_token(loaded):
        found += files.token(directory)
    found += files.permissions(directory, loaded.files)
    inspections = asyncio.run(python_agents.imported(loaded.settings))
    found += [*_beyond_files(state, loaded, directory), *python_agents.unusable(inspections)]
    notes = (*loaded.settings.notes, *database.unused_files(directory, loaded.settings.store))
    return found, (*notes, *python_agents.slow(inspections))


def _beyond_files(state: State, loaded: Loaded, directory: Path) -> list[Finding]:
    from ..diagnosis import network as network
    from ..diagnosis import sandboxes as sandboxes
    from ..diagnosis import tool_servers as tool_servers
    from ..diagnosis.knowledge import left_out
    from ..diagnosis.packages import missing

    sandbox = sandboxes.sandbox_of(state, loaded.settings)
    return [
        *network.keys(loaded.settings),
        *asyncio.run(network.reached(loaded.settings, loaded.locations.state_dir)),
        *asyncio.run(sandboxes.unavailable(loaded.settings, sandbox)),
        *asyncio.run(tool_servers.unavailable(loaded.settings, sandbox)),
        *missing(loaded.settings),
        *left_out(loaded.settings, loaded.locations.skills_path),
        *_stored(directory, loaded.settings.store),
    ]


def _stored(directory: Path, settings: StoreSettings) -> list[Finding]:
    """Where the state is kept: in a database that is shared, or in files."""
    from ..diagnosis.database import database
    from ..diagnosis.store import stores

    if settings.url is not None:
        return asyncio.run(database(settings))
    return list(stores(directory, settings))


def _repaired(finding: Finding) -> bool:
    if finding.repair is None:
        return False
    try:
        finding.repair()
    except OSError as error:
        echo(f"opensoul: not repaired: {finding.message} ({error})", err=True)
        return False
    return True


def _print(outcomes: list[tuple[Finding, bool]], fix: bool) -> None:
    for finding, fixed in outcomes:
        echo(f"{'repaired' if fixed else 'found'}: {finding.message}")
        if not fixed:
            echo(f"  {finding.advice}")
    repairable = [
        finding for finding, fixed in outcomes if finding.repair is not None and not fixed
    ]
    if not outcomes:
        echo("Everything is in order.")
    elif repairable and not fix:
        echo(f"`opensoul doctor --fix` repairs {len(repairable)} of these.")


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        echo(f"note: {note}")
