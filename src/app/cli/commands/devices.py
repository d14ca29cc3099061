"""`opensoul devices`: paired devices, and those that request pairing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo, print_table
from ..common.errors import CommandError
from ..common.lazy import ListGroup
from ..common.state import State, print_json
from ..remote.reaching import ADMIN, ALL, PAIRING, wire_options
from ..remote.rpc import call, show, with_client

if TYPE_CHECKING:
    from ....client import Client, Hello


@click.group(cls=ListGroup, options=wire_options)
@wire_options
def devices() -> None:
    """Approve, reject and remove devices; without a command, list them."""


@devices.subcommand("list")
def list_devices(state: State) -> None:
    """List the paired devices, and those that request pairing."""
    _show(state, "device.pair.list", {}, _print_tables)


def _print_tables(answer: Any) -> None:
    from ....client.results import rows

    asking = [
        (row.get("requestId"), _name(row), row.get("remoteIp"), _joined(row.get("scopes")))
        for row in rows(answer, "pending")
    ]
    if asking:
        print_table(("request", "device", "address", "asks for"), asking, empty="")
        echo("\nApprove one: opensoul devices approve REQUEST\n")
    paired = [
        (row.get("deviceId"), _name(row), _joined(row.get("roles")), _joined(row.get("scopes")))
        for row in rows(answer, "paired")
    ]
    print_table(("device", "name", "roles", "scopes"), paired, empty="No devices are paired.")


@devices.subcommand()
@click.argument("request", required=False)
def approve(state: State, request: str | None) -> None:
    """Approve a device. Without a REQUEST, the only pending one."""
    chosen = request or _only_request(state)
    _show(state, "device.pair.approve", {"requestId": chosen}, lambda _: "The device is approved.")


@devices.subcommand()
@click.argument("request")
def reject(state: State, request: str) -> None:
    """Reject a device."""
    _show(state, "device.pair.reject", {"requestId": request}, lambda _: "The device is rejected.")


@devices.subcommand()
def pair(state: State) -> None:
    """Pair this machine with another Gateway, for a token of its own.

    Needs --url and that Gateway's secret; once it is approved there, the same command again keeps
    a token, and from then on --url alone is enough.
    """

    async def ask(client: Client) -> tuple[str, Hello]:
        return client.options.url, client.hello

    url, hello = with_client(state, ask, scopes=ALL, as_device=True)
    if state.json:
        print_json({"url": url, "role": hello.role, "scopes": hello.scopes})
    else:
        echo(f"Paired with {url}, for {', '.join(hello.scopes)}. --url needs no secret now.")


@devices.subcommand()
@click.argument("device")
def remove(state: State, device: str) -> None:
    """Remove a device, and close its connections."""
    _show(state, "device.pair.remove", {"deviceId": device}, lambda _: "The device is removed.")


@devices.subcommand()
@click.argument("device")
@click.option("--role", default="operator", show_default=True)
@click.option("--scope", "scopes", multiple=True, help="What the token is for; may be repeated.")
def rotate(state: State, device: str, role: str, scopes: tuple[str, ...]) -> None:
    """Give a device a new token, and print it; the old one stops working at once."""
    params = {"deviceId": device, "role": role, "scopes": list(scopes) or None}
    _show(state, "device.token.rotate", params, lambda answer: str(answer.get("token", "")))


@devices.subcommand()
@click.argument("device")
@click.option("--role", default="operator", show_default=True)
def revoke(state: State, device: str, role: str) -> None:
    """Revoke a device's token, and close its connections."""
    params = {"deviceId": device, "role": role}
    _show(state, "device.token.revoke", params, lambda _: "The token is revoked.")


def _show(
    state: State, method: str, params: dict[str, Any], text: Callable[[Any], str | None]
) -> None:
    # A client can only grant scopes that it has, so these two need more than pairing.
    grants = method in ("device.pair.approve", "device.token.rotate")
    show(state, method, params, scopes=(*PAIRING, *ADMIN) if grants else PAIRING, text=text)


def _only_request(state: State) -> str:
    from ....client.results import rows

    asking = rows(call(state, "device.pair.list", scopes=PAIRING), "pending")
    if len(asking) != 1:
        count = "No device requests" if not asking else f"{len(asking)} devices request"
        message = f"{count} pairing; see `opensoul devices list`."
        raise CommandError(message, code="no_request")
    return str(asking[0].get("requestId"))


def _name(row: dict[str, Any]) -> str:
    named = row.get("displayName") or row.get("clientId") or str(row.get("deviceId", ""))[:12]
    platform = row.get("platform")
    return f"{named} ({platform})" if platform else str(named)


def _joined(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else ""
