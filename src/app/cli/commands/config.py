"""`opensoul config`: what is configured, whether it is valid, what could be; and to change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ...terminal import echo
from ..common.lazy import Group
from ..common.refused import CommandError
from ..common.state import State, common_options, print_json
from .config_edit import COMMANDS

if TYPE_CHECKING:
    from ....adapters.config import Loaded


@click.group(cls=Group)
@common_options
def config() -> None:
    """Check, show, explain and change the configuration."""


@config.command()
@common_options
@click.pass_context
def check(ctx: click.Context) -> None:
    """Say whether the configuration is valid, or everything that is wrong with it."""
    from ..common.configuration import load_config

    state = ctx.ensure_object(State)
    try:
        loaded = load_config(state)
    except CommandError as refused:
        if not state.json:
            raise
        print_json({"valid": False, "issues": refused.issues, "notes": []})
        ctx.exit(1)
    notes = loaded.settings.notes
    if state.json:
        print_json({"valid": True, "issues": [], "notes": notes})
        return
    count = len(loaded.settings.agents)
    echo(f"Valid: {_origin(loaded)}; {count} agent{'s' if count > 1 else ''}.")
    for note in notes:
        echo(f"- {note}")


@config.command()
@common_options
@click.pass_obj
def show(state: State) -> None:
    """Print the configuration in force, defaults included, secrets masked."""
    from ....adapters.config import redacted
    from ..common.configuration import load_config

    loaded = load_config(state)
    shown = redacted(loaded)
    if state.json:
        print_json({"files": _files(loaded), "config": shown})
        return
    # Comments, so that the output is a JSON5 file.
    echo(f"// From: {_origin(loaded)}.")
    print_json(shown)


@config.command()
@common_options
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from ....adapters.config import json_schema

    print_json(json_schema())


@config.command()
@common_options
def reference() -> None:
    """Print every key with its default and its meaning, as Markdown."""
    from ....adapters.config import render_reference

    echo(render_reference(), nl=False)


for _command in COMMANDS:
    config.add_command(_command)


def _files(loaded: Loaded) -> list[str]:
    return list(loaded.files) if loaded.exists else []


def _origin(loaded: Loaded) -> str:
    files = _files(loaded)
    return ", ".join(files) if files else f"defaults, as there is no {loaded.locations.config_path}"
