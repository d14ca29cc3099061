"""`opensoul gateway`: serve, and the commands that look at a Gateway that serves."""

from __future__ import annotations

import click

from ..common.lazy import Group
from ..common.refused import CommandError
from ..common.state import Command, State, common_options, remembered
from ..remote.secret_options import secret_options
from .gateway_rpc import COMMANDS

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
    *secret_options("token", "that clients send"),
    *secret_options("password", "that clients send"),
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


@click.group(cls=Group, invoke_without_command=True)
@_gateway_options
@click.pass_context
def gateway(ctx: click.Context) -> int | None:
    """Serve agents over HTTP and WebSocket; the same as `gateway run`."""
    return _serve(ctx.ensure_object(State)) if ctx.invoked_subcommand is None else None


@gateway.command()
@_gateway_options
@click.pass_obj
def run(state: State) -> int:
    """Serve in the foreground until SIGTERM, SIGINT, SIGQUIT or SIGHUP.

    Each of them lets runs finish first (gateway.shutdown.graceSeconds); a second one, other than
    SIGHUP, ends it at once.
    """
    return _serve(state)


for _command in COMMANDS:
    gateway.add_command(_command)


def _serve(state: State) -> int:
    from ....adapters.config import ConfigInvalid
    from ....adapters.system.files import StateLocked
    from ....domain.errors import GatewayError
    from ...plugins import PluginInvalid, PluginMissing
    from ...server import PortTaken, TlsUnusable
    from ..common.configuration import refusal

    try:
        return state.serve(state.overrides(), bool(state.options.get("print_example")))
    except ConfigInvalid as invalid:
        raise refusal(invalid) from None
    except StateLocked as locked:
        raise CommandError(str(locked), code="state_locked") from None
    except PortTaken as taken:
        raise CommandError(str(taken), code="port_taken") from None
    except TlsUnusable as unusable:
        raise CommandError(str(unusable), code="tls_unusable") from None
    except PluginMissing as missing:
        raise CommandError(str(missing), code="plugin_missing") from None
    except PluginInvalid as invalid_plugin:
        raise CommandError(str(invalid_plugin), code="plugin_invalid") from None
    except GatewayError as error:
        raise CommandError(error.message, code=error.code) from error
