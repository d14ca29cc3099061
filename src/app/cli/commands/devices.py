"""`opensoul devices`: who is let in with a device of their own, and who asks to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo
from ..common.errors import CommandError
from ..common.lazy import Group
from ..common.state import State, print_json
from ..remote.reaching import ADMIN, ALL, PAIRING, wire_options

if TYPE_CHECKING:
    from ....client import Client, Hello


@click.group(cls=Group, invoke_without_command=True)
@wire_options
@click.pass_context
def devices(ctx: click.Context) -> None:
    """Let devices in, or not; without a command, list them."""
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(State))


@devices.command("list")
@wire_options
@click.pass_obj
def list_devices(state: State) -> None:
    """List the devices that are paired, and those that ask to be."""
    _list(state)


def _list(state: State) -> None:
    from ....client.results import rows
    from ...terminal import print_table

    answer = _call(state, "device.pair.list", {})
    if state.json:
        print_json(answer)
        return
    asking = [
        (row.get("requestId"), _name(row), row.get("remoteIp"), _joined(row.get("scopes")))
        for row in rows(answer, "pending")
    ]
    if asking:
        print_table(("request", "device", "address", "asks for"), asking, empty="")
        echo("\nLet one in: opensoul devices approve REQUEST\n")
    paired = [
        (row.get("deviceId"), _name(row), _joined(row.get("roles")), _joined(row.get("scopes")))
        for row in rows(answer, "paired")
    ]
    print_table(("device", "name", "roles", "scopes"), paired, empty="No devices are paired.")


@devices.command()
@click.argument("request", required=False)
@wire_options
@click.pass_obj
def approve(state: State, request: str | None) -> None:
    """Let a device in. Without a REQUEST, the only one that asks."""
    chosen = request or _only_request(state)
    answer = _call(state, "device.pair.approve", {"requestId": chosen})
    _report(state, answer, "The device is let in.")


@devices.command()
@click.argument("request")
@wire_options
@click.pass_obj
def reject(state: State, request: str) -> None:
    """Turn a device away."""
    answer = _call(state, "device.pair.reject", {"requestId": request})
    _report(state, answer, "The device is turned away.")


@devices.command()
@wire_options
@click.pass_obj
def pair(state: State) -> None:
    """Have this machine let in elsewhere with a token of its own.

    Needs --url and that Gateway's secret; once it is approved there, the same command again keeps
    a token, and from then on --url alone is enough.
    """
    from ..remote.rpc import talk

    async def ask(client: Client) -> tuple[str, Hello]:
        return client.options.url, client.hello

    url, hello = talk(state, ask, scopes=ALL, as_device=True)
    if state.json:
        print_json({"url": url, "role": hello.role, "scopes": hello.scopes})
    else:
        echo(f"Let in at {url}, for {', '.join(hello.scopes)}. --url needs no secret now.")


@devices.command()
@click.argument("device")
@wire_options
@click.pass_obj
def remove(state: State, device: str) -> None:
    """Forget a device, and close its connections."""
    answer = _call(state, "device.pair.remove", {"deviceId": device})
    _report(state, answer, "The device is forgotten.")


@devices.command()
@click.argument("device")
@click.option("--role", default="operator", show_default=True)
@click.option("--scope", "scopes", multiple=True, help="What the token is for; may be repeated.")
@wire_options
@click.pass_obj
def rotate(state: State, device: str, role: str, scopes: tuple[str, ...]) -> None:
    """Give a device a new token, and print it; the old one stops working at once."""
    params = {"deviceId": device, "role": role, "scopes": list(scopes) or None}
    answer = _call(state, "device.token.rotate", params)
    _report(state, answer, str(answer.get("token", "")))


@devices.command()
@click.argument("device")
@click.option("--role", default="operator", show_default=True)
@wire_options
@click.pass_obj
def revoke(state: State, device: str, role: str) -> None:
    """Take a device's token away, and close its connections."""
    answer = _call(state, "device.token.revoke", {"deviceId": device, "role": role})
    _report(state, answer, "The token is void.")


def _call(state: State, method: str, params: dict[str, Any]) -> Any:
    from ..remote.rpc import call

    # Nobody gives away what they do not hold, so who lets others in asks for more than pairing.
    gives = method in ("device.pair.approve", "device.token.rotate")
    return call(state, method, params, scopes=(*PAIRING, *ADMIN) if gives else PAIRING)


def _only_request(state: State) -> str:
    from ....client.results import rows

    asking = rows(_call(state, "device.pair.list", {}), "pending")
    if len(asking) != 1:
        count = "No device asks" if not asking else f"{len(asking)} devices ask"
        raise CommandError(f"{count} to be let in; see `opensoul devices list`.", code="no_request")
    return str(asking[0].get("requestId"))


def _report(state: State, answer: Any, sentence: str) -> None:
    if state.json:
        print_json(answer)
    else:
        echo(sentence)


def _name(row: dict[str, Any]) -> str:
    named = row.get("displayName") or row.get("clientId") or str(row.get("deviceId", ""))[:12]
    platform = row.get("platform")
    return f"{named} ({platform})" if platform else str(named)


def _joined(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else ""
