"""`opensoul dev`: serve one Python agent while it is written."""

from __future__ import annotations

import os

import click

from ..common.errors import CommandError
from ..common.state import State, common_options


@click.command()
@click.argument("target", metavar="MODULE:TARGET")
@click.option("--path", metavar="DIR", help="The directory of MODULE; the current one by default.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=18_789,
    show_default=True,
    help="The port to listen on; 0: any.",
)
@click.option(
    "--isolation",
    type=click.Choice(["thread", "process", "inline"]),
    default="thread",
    show_default=True,
    help="Where the code runs.",
)
@common_options
@click.pass_obj
def dev(state: State, target: str, path: str | None, port: int, isolation: str) -> int:
    """Serve one Python agent without any configuration, and print a command that asks it.

    It listens on loopback, with a token and a store of its own, which are deleted at the end. When
    a Python file below the directory changes, it starts again with the new code.
    """
    from ....domain.agents import is_target
    from ..development.watching import Served, develop

    directory = os.path.abspath(path or ".")
    if not is_target(target):
        message = f"{target!r} is no target. Write MODULE:TARGET, such as support:agent."
        raise CommandError(message, code="invalid_option")
    if not os.path.isdir(directory):
        raise CommandError(f"There is no directory {directory}.", code="invalid_option")
    return develop(Served(target, directory, isolation, port))
