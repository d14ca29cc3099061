"""`opensoul gateway call|status|probe|stop`: a Gateway that serves, from outside."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo
from ..common.refused import CommandError
from ..common.state import State, print_json
from ..remote.reaching import ADMIN, ALL, READ, reach, timeout_of, wire_options

if TYPE_CHECKING:
    from ....client import Client


@click.command("call")
@click.argument("method")
@click.option("--params", default="{}", metavar="JSON", help="The parameters, an object.")
@click.option("--expect-final", is_flag=True, help="Wait for the last answer, not the first.")
@wire_options
@click.pass_obj
def call_method(state: State, method: str, params: str, expect_final: bool) -> None:
    """Call METHOD of the control protocol and print the answer's payload."""
    from ..remote.rpc import talk

    try:
        payload = json.loads(params)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}.", param_hint="--params") from None
    if not isinstance(payload, dict):
        raise click.BadParameter("must be a JSON object.", param_hint="--params")

    async def ask(client: Client) -> Any:
        # The last answer takes as long as the run does.
        timeout = None if expect_final else timeout_of(state)
        return await client.call(method, payload, timeout=timeout, expect_final=expect_final)

    print_json(talk(state, ask, scopes=ALL))


@click.command()
@wire_options
@click.pass_obj
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


@click.command()
@wire_options
@click.pass_obj
def status(state: State) -> int:
    """Show where the Gateway is, who owns the state directory, and whether it answers."""
    from ...terminal import print_fields
    from ..common.configuration import load_config
    from ..common.holder import holder_of, lives

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
                ("owner", found["owner"] or "nobody: no Gateway runs there"),
            )
        )
    return 0 if found["reachable"] else 1


@click.command()
@wire_options
@click.pass_obj
def stop(state: State) -> None:
    """Have the Gateway finish its runs and end."""
    from ..remote.rpc import call

    answer = call(state, "gateway.stop", {"reason": "opensoul gateway stop"}, scopes=ADMIN)
    if state.json:
        print_json(answer)
    else:
        echo("The Gateway ends as soon as its runs have ended.")


def _probe(state: State) -> dict[str, Any]:
    from ....client import Client
    from ..remote.rpc import client_errors

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
    except CommandError as refused:
        return found | {"error": refused.message}


COMMANDS = (call_method, probe, status, stop)
