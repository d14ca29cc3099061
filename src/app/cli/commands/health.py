"""`opensoul health`: the health of every part of the Gateway."""

from __future__ import annotations

from typing import Any

import click

from ..common.state import State
from ..remote.reaching import READ, wire_options
from ..remote.rpc import show


@click.command()
@wire_options
@click.pass_obj
def health(state: State) -> int:
    """Check whether every part of the Gateway is healthy.

    The exit code is 1 if one is not.
    """

    def text(answer: Any) -> str:
        lines = [f"{part}: {why}" for part, why in (answer.get("failing") or {}).items()]
        return "\n".join(["ok", *lines] if answer.get("ok") else lines)

    return 0 if show(state, "health", scopes=READ, text=text).get("ok") else 1
