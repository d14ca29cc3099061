"""`opensoul token`: the secret of clients."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ...terminal import echo
from ..common.configuration import load_config, needs_generated_token
from ..common.errors import CommandError
from ..common.lazy import Group
from ..common.state import State, common_options, print_json

if TYPE_CHECKING:
    from ....adapters.config import Loaded


@click.group(cls=Group)
@common_options
def token() -> None:
    """Print or replace the secret that clients send."""


@token.subcommand()
def show(state: State) -> None:
    """Print the token, or the password, that the Gateway accepts, and nothing else.

    If none is configured, this is the generated token, which is created if it does not exist.
    """
    from ....adapters.system.files import TokenFile

    auth = load_config(
        state, generated_token=lambda at: TokenFile(at).read_or_create()
    ).settings.auth
    if auth.secret is None:
        raise _not_needed()
    if state.json:
        print_json({"mode": str(auth.mode), "secret": auth.secret.reveal()})
    else:
        echo(auth.secret.reveal())


@token.subcommand()
def rotate(state: State) -> None:
    """Replace the generated token. The old one stops working at once; prints the new one."""
    from ....adapters.system.files import TokenFile

    loaded = load_config(state)
    if not needs_generated_token(loaded):
        raise _not_generated(loaded)
    file = TokenFile(loaded.locations.state_dir)
    fresh = file.rotate()
    if state.json:
        print_json({"mode": "token", "secret": fresh, "file": str(file.path)})
    else:
        echo(fresh)


def _not_needed() -> CommandError:
    return CommandError(
        "No token is needed: gateway.auth.mode is `none`, so every program on this machine may use "
        "the Gateway.",
        code="no_secret",
    )


def _not_generated(loaded: Loaded) -> CommandError:
    mode = loaded.settings.auth.mode
    if loaded.settings.auth.secret is None:
        return _not_needed()
    return CommandError(
        f"The {mode} was not generated: it comes from {_source(loaded)}. Change it there.",
        code="not_generated",
    )


def _source(loaded: Loaded) -> str:
    mode = loaded.settings.auth.mode.value
    auth = loaded.config.gateway.auth
    if (auth.token if mode == "token" else auth.password) is not None:
        return f"gateway.auth.{mode} in {loaded.locations.config_path}"
    names = [f"{product}_GATEWAY_{mode.upper()}" for product in ("OPENSOUL", "OPENCLAW")]
    name = next(name for name in names if name in loaded.env)
    if name in os.environ:
        return f"the environment variable {name}"
    return f"{name} in the `env` block of {loaded.locations.config_path}"
