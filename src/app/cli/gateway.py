"""`opensoul gateway`: serve."""

from __future__ import annotations

from typing import Any

import click

from .refused import Refused
from .secrets import secret_from_file
from .state import Command, State, common_options, remembered


def _from_file(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    if path is None:
        return
    try:
        secret = secret_from_file(path)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx, param) from None
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}.", ctx, param) from None
    _keep(ctx, param, str(param.name).removesuffix("_file"), secret)


def _given(ctx: click.Context, param: click.Parameter, secret: str | None) -> None:
    if secret is None:
        return
    if not secret.strip():
        raise click.BadParameter("must not be empty.", ctx, param)
    _keep(ctx, param, str(param.name), secret)


def _keep(ctx: click.Context, param: click.Parameter, name: str, secret: str) -> None:
    options = ctx.ensure_object(State).options
    if name in options:
        raise click.BadParameter(f"the {name} is given twice.", ctx, param)
    options[name] = secret


def _secret_options(name: str) -> list[Any]:
    return [
        click.option(
            f"--{name}",
            metavar="SECRET",
            expose_value=False,
            callback=_given,
            help=f"The {name} that clients send. Better: --{name}-file.",
        ),
        click.option(
            f"--{name}-file",
            metavar="FILE",
            expose_value=False,
            callback=_from_file,
            help=f"Read the {name} from a file.",
        ),
    ]


_OPTIONS = (
    remembered("--port", type=click.IntRange(0, 65_535), help="The port to listen on; 0: any."),
    remembered(
        "--bind",
        type=click.Choice(["loopback", "lan", "tailnet", "auto", "custom"]),
        help="Who can reach the Gateway.",
    ),
    remembered(
        "--auth",
        type=click.Choice(["token", "password", "none"]),
        help="How clients prove who they are.",
    ),
    *_secret_options("token"),
    *_secret_options("password"),
    remembered(
        "--print-example",
        is_flag=True,
        help="Print the generated token within the example command, ready to be pasted.",
    ),
)


def _gateway_options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return common_options(command)


@click.group(invoke_without_command=True)
@_gateway_options
@click.pass_context
def gateway(ctx: click.Context) -> int | None:
    """Serve agents over HTTP; the same as `gateway run`."""
    return _serve(ctx.ensure_object(State)) if ctx.invoked_subcommand is None else None


@gateway.command()
@_gateway_options
@click.pass_obj
def run(state: State) -> int:
    """Serve in the foreground until SIGTERM or SIGINT.

    Either lets runs finish first (gateway.shutdown.graceSeconds); a second one ends it at once.
    """
    return _serve(state)


def _serve(state: State) -> int:
    from ...adapters.config import ConfigInvalid
    from ...adapters.system.state_lock import StateLocked
    from ...domain.errors import GatewayError
    from ..hosting import PortTaken
    from ..plugins import PluginMissing
    from .configuration import refusal

    try:
        return state.serve(state.overrides(), bool(state.options.get("print_example")))
    except ConfigInvalid as invalid:
        raise refusal(invalid) from None
    except StateLocked as locked:
        raise Refused(str(locked), code="state_locked") from None
    except PortTaken as taken:
        raise Refused(str(taken), code="port_taken") from None
    except PluginMissing as missing:
        raise Refused(str(missing), code="plugin_missing") from None
    except GatewayError as error:
        raise Refused(error.message, code=error.code) from error
