"""`opensoul gateway`: serve, and look at a Gateway that serves."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo, print_fields
from ..common.configuration import gateway_errors, load_config
from ..common.errors import CommandError
from ..common.holder import holder_of, lives
from ..common.lazy import Group
from ..common.state import Command, State, common_options, print_json, remembered
from ..remote.reaching import ADMIN, ALL, READ, reach, timeout_of, wire_options
from ..remote.rpc import client_errors, show, with_client
from ..remote.secret_options import secret_options

if TYPE_CHECKING:
    from ....client import Client


_OPTIONS = (
    remembered("--port", type=click.IntRange(0, 65_535), help="The port to listen on; 0: any."),
    remembered(
        "--bind",
        type=click.Choice(["loopback", "lan", "tailnet", "auto", "custom"]),
        help="The addresses to listen on.",
    ),
    remembered(
        "--auth",
        type=click.Choice(["token", "password", "none"]),
        help="How clients authenticate.",
    ),
    *secret_options("token", "that clients send"),
    *secret_options("password", "that clients send"),
    remembered(
        "--print-example",
        is_flag=True,
        help="Print the generated token in the example command.",
    ),
)


def _gateway_options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return common_options(command)


@click.group(cls=Group, options=wire_options, invoke_without_command=True)
@_gateway_options
@click.pass_context
def gateway(ctx: click.Context) -> int | None:
    """Serve agents over HTTP and WebSocket; the same as `gateway run`."""
    return _serve(ctx.ensure_object(State)) if ctx.invoked_subcommand is None else None


@gateway.subcommand(options=_gateway_options)
def run(state: State) -> int:
    """Serve in the foreground until SIGTERM, SIGINT, SIGQUIT or SIGHUP.

    Each of them lets clients leave and runs finish first (gateway.shutdown); a second one, other
    than SIGHUP, ends it at once.
    """
    return _serve(state)


@gateway.subcommand("call")
@click.argument("method")
@click.option("--params", default="{}", metavar="JSON", help="The parameters, an object.")
@click.option("--expect-final", is_flag=True, help="Wait for the final answer, not the first.")
def call_method(state: State, method: str, params: str, expect_final: bool) -> None:
    """Call METHOD of the control protocol and print the answer's payload."""
    try:
        payload = json.loads(params)
    except ValueError as error:
        raise click.BadParameter(f"invalid JSON: {error}.", param_hint="--params") from None
    if not isinstance(payload, dict):
        raise click.BadParameter("must be a JSON object.", param_hint="--params")

    async def ask(client: Client) -> Any:
        # The final answer arrives at the end of the run.
        timeout = None if expect_final else timeout_of(state)
        return await client.call(method, payload, timeout=timeout, expect_final=expect_final)

    print_json(with_client(state, ask, scopes=ALL))


@gateway.subcommand()
def probe(state: State) -> int:
    """Check whether the Gateway can be reached, and how fast; the exit code is 1 if not."""
    found = _probe(state)
    if state.json:
        print_json(found)
    elif found["reachable"]:
        version = found["version"] or "of an unknown version"
        echo(f"{found['url']} answers in {found['milliseconds']} ms (OpenSoul {version}).")
    else:
        echo(f"opensoul: {found['error']}", err=True)
    return 0 if found["reachable"] else 1


@gateway.subcommand()
def status(state: State) -> int:
    """Show where the Gateway is, who owns the state directory, and whether it answers."""
    loaded = load_config(state)
    places = loaded.locations
    holder = holder_of(places.state_dir)
    alive = holder is not None and lives(holder)
    found = _probe(state) | {
        "port": loaded.settings.listen.port,
        "bind": list(loaded.settings.listen.hosts),
        "config": str(places.config_path),
        "stateDir": str(places.state_dir),
        "owner": str(holder) if alive else None,
    }
    if state.json:
        print_json(found)
    else:
        answers = f"yes, in {found['milliseconds']} ms" if found["reachable"] else "no"
        print_fields(
            (
                ("gateway", found["url"]),
                ("answers", answers),
                ("why", found["error"]),
                ("version", found["version"]),
                ("scopes", ", ".join(found["scopes"])),
                ("port", f"{found['port']} on {', '.join(found['bind'])}"),
                ("config", found["config"]),
                ("state", found["stateDir"]),
                ("owner", found["owner"] or "none: no Gateway is running"),
            )
        )
    return 0 if found["reachable"] else 1


@gateway.subcommand()
def stop(state: State) -> None:
    """Stop the Gateway after its runs have ended."""
    show(
        state,
        "gateway.stop",
        {"reason": "opensoul gateway stop"},
        scopes=ADMIN,
        text=lambda _: "The Gateway ends as soon as its runs have ended.",
    )


def _serve(state: State) -> int:
    from ...server import PortTaken, TlsUnusable

    try:
        with gateway_errors():
            return state.serve(state.overrides(), bool(state.options.get("print_example")))
    except PortTaken as taken:
        raise CommandError(str(taken), code="port_taken") from None
    except TlsUnusable as unusable:
        raise CommandError(str(unusable), code="tls_unusable") from None


def _probe(state: State) -> dict[str, Any]:
    from ....client import Client

    target = reach(state)
    options = target.options(READ, timeout=timeout_of(state), reconnect=False, min_protocol=3)
    found: dict[str, Any] = {
        "url": target.url,
        "reachable": False,
        "milliseconds": None,
        "version": None,
        "protocol": None,
        "scopes": [],
        "error": None,
    }

    async def measured() -> dict[str, Any]:
        begun = time.monotonic()
        async with Client(options) as client:
            return {
                "reachable": True,
                "milliseconds": round((time.monotonic() - begun) * 1_000),
                "version": client.hello.server_version,
                "protocol": client.hello.protocol,
                "scopes": list(client.hello.scopes),
            }

    try:
        with client_errors(target):
            return found | asyncio.run(measured())
    except CommandError as error:
        return found | {"error": error.message}
