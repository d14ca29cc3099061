"""`opensoul health`: is every part fit to serve."""

from __future__ import annotations

import click

from ...terminal import echo
from ..common.state import State, print_json
from ..remote.reaching import READ, wire_options


@click.command()
@wire_options
@click.pass_obj
def health(state: State) -> int:
    """Check whether every part of the Gateway is fit to serve.

    The exit code is 1 where one is not.
    """
    from ..remote.rpc import call

    answer = call(state, "health", scopes=READ)
    if state.json:
        print_json(answer)
    elif answer.get("ok"):
        echo("ok")
    for part, why in ({} if state.json else answer.get("failing") or {}).items():
        echo(f"{part}: {why}")
    return 0 if answer.get("ok") else 1
