"""`opensoul mcp`: the servers of tools."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo, one_line, print_table
from ..common import config_paths as paths
from ..common.configuration import load_config
from ..common.editing import edit, json5_value
from ..common.errors import CommandError
from ..common.lazy import ListGroup
from ..common.state import State, common_options, print_json
from ..common.streams import read_text
from ..remote.reaching import ADMIN, wire_options
from ..remote.rpc import show

if TYPE_CHECKING:
    from ....domain.settings import McpServerSettings
    from ..diagnosis.tool_servers import Probe

_SERVERS = ("mcp", "servers")


@click.group(cls=ListGroup)
@common_options
def mcp() -> None:
    """Show, start and configure MCP servers; without a command, list them."""


@mcp.subcommand("list")
def list_servers(state: State) -> None:
    """List the configured servers. None is started."""
    from ....adapters.config import redacted

    loaded = load_config(state)
    shown: Any = redacted(loaded)["mcp"]["servers"]
    if state.json:
        print_json({"servers": shown})
        return
    rows = [
        (
            server.name,
            "http" if server.url else "stdio",
            " ".join([server.command, *shown[server.name]["args"]]).strip() or _address(server),
            "" if server.enabled else "disabled",
        )
        for server in loaded.settings.mcp_servers
    ]
    print_table(("server", "over", "program or address", ""), rows, empty="No servers.")


@mcp.subcommand(options=wire_options)
def status(state: State) -> None:
    """Show how the servers of the running Gateway are. None is started."""

    def text(answer: Any) -> None:
        servers = (answer.get("mcp") or {}).get("servers") or []
        rows = [
            (
                server.get("name"),
                server.get("state"),
                len(server["tools"]) if "tools" in server else "",
                one_line(str(server.get("problem", ""))) or _without(server.get("leftOut")),
            )
            for server in servers
        ]
        print_table(("server", "state", "tools", "problem"), rows, empty="No servers.")

    show(state, "status", scopes=ADMIN, text=text)


@mcp.subcommand()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def probe(state: State, names: tuple[str, ...]) -> int:
    """Start servers, list their tools, and stop them; without a name, all that are enabled.

    No Gateway is needed. The exit code is 1 if one failed.
    """
    probes = _probed(state, names)
    failed = any(probe.problem for probe in probes)
    if state.json:
        described = [{**probe.server.described(), "ok": not probe.problem} for probe in probes]
        print_json({"ok": not failed, "servers": described})
        return int(failed)
    rows = [
        (
            probe.server.name,
            "failed" if probe.problem else "ok",
            probe.server.about,
            one_line(probe.problem)
            or "; ".join(
                filter(None, [f"{len(probe.tools)} tools", _without(probe.server.left_out)])
            ),
        )
        for probe in probes
    ]
    print_table(("server", "", "name and version", ""), rows, empty="No server is enabled.")
    return int(failed)


@mcp.subcommand()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def tools(state: State, names: tuple[str, ...]) -> int:
    """Start servers and list the tools that they can offer; no Gateway is needed."""
    probes = _probed(state, names)
    failed = {probe.server.name: probe.problem for probe in probes if probe.problem}
    specs = [spec for probe in probes for spec in probe.tools]
    if state.json:
        described = [
            {
                "name": spec.name,
                "description": spec.description,
                "effects": sorted(spec.effects),
                "parameters": spec.parameters,
            }
            for spec in specs
        ]
        print_json({"tools": described, "failed": failed})
        return int(bool(failed))
    rows = [
        (spec.name, "/".join(sorted(spec.effects)), one_line(spec.description, 80))
        for spec in specs
    ]
    print_table(("tool", "may", "description"), rows, empty="No tools.")
    for name, problem in failed.items():
        echo(f"opensoul: {name}: {problem}", err=True)
    return int(bool(failed))


@mcp.subcommand()
@click.argument("name")
@click.argument("words", metavar="[-- COMMAND [ARGUMENT]...]", nargs=-1)
@click.option("--url", "address", metavar="URL", help="The URL of a server over HTTP.")
@click.option("--sse", is_flag=True, help="The URL speaks the older transport.")
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="A variable for the program.")
@click.option("--header", multiple=True, metavar="NAME=VALUE", help="A header for the URL.")
@click.option("--cwd", metavar="FOLDER", help="The working directory of the program.")
def add(
    state: State,
    name: str,
    words: tuple[str, ...],
    address: str | None,
    sse: bool,
    env: tuple[str, ...],
    header: tuple[str, ...],
    cwd: str | None,
) -> None:
    """Add a server to the configuration: a program after `--`, or a URL.

    `--env NAME` without a value refers to the variable of the Gateway, so that its value is neither
    in the file nor on the command line.
    """
    entry: dict[str, object] = {}
    if words:
        entry["command"] = words[0]
    if len(words) > 1:
        entry["args"] = list(words[1:])
    if address is not None:
        entry["url"] = address
    if sse:
        entry["transport"] = "sse"
    if env:
        entry["env"] = dict(_pair(one, "${" + one + "}") for one in env)
    if header:
        entry["headers"] = dict(_pair(one, None) for one in header)
    if cwd is not None:
        entry["cwd"] = os.path.abspath(cwd)

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        if _holds(held, name):
            message = f"There is a server {name} already. Use `opensoul mcp set`, or `unset` first."
            raise CommandError(message, code="mcp_server_exists")
        return paths.setting(held, (*_SERVERS, name), entry)

    edit(state, f"Added the MCP server {name}.", ".".join((*_SERVERS, name)), patch)


@mcp.subcommand("set")
@click.argument("name")
@click.argument("value")
def set_server(state: State, name: str, value: str) -> None:
    """Set a server to VALUE, a JSON5 object with the keys of `mcp.servers.NAME`.

    - reads it from standard input, hidden from other users.
    """
    entry = json5_value(read_text("VALUE") if value == "-" else value)
    if not isinstance(entry, dict):
        message = "VALUE has to be an object, such as '{ command: \"mcp-server-time\" }'."
        raise CommandError(message, code="usage")

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        return paths.setting(held, (*_SERVERS, name), entry)

    edit(state, f"Set the MCP server {name}.", ".".join((*_SERVERS, name)), patch)


@mcp.subcommand()
@click.argument("name")
def unset(state: State, name: str) -> None:
    """Remove a server from the configuration."""

    def patch(held: Mapping[str, object]) -> Mapping[str, object]:
        try:
            return paths.removing(held, (*_SERVERS, name))
        except paths.BadPath:
            raise _unknown(name, ()) from None

    edit(state, f"Removed the MCP server {name}.", ".".join((*_SERVERS, name)), patch)


def _probed(state: State, names: Sequence[str]) -> list[Probe]:
    """The named servers, also disabled ones, or else all that are enabled."""
    from ..diagnosis.sandboxes import sandbox_of
    from ..diagnosis.tool_servers import probed

    settings = load_config(state).settings
    known = {server.name: server for server in settings.mcp_servers}
    for name in names:
        if name not in known:
            raise _unknown(name, known)
    named = [replace(known[name], enabled=True) for name in dict.fromkeys(names)]
    chosen = named or [server for server in known.values() if server.enabled]
    return asyncio.run(probed(settings, chosen, sandbox_of(state, settings)))


def _unknown(name: str, known: Sequence[str] | Mapping[str, object]) -> CommandError:
    others = f" Servers: {', '.join(known)}." if known else ""
    return CommandError(f"There is no MCP server {name}.{others}", code="mcp_server_unknown")


def _holds(held: Mapping[str, object], name: str) -> bool:
    try:
        paths.found(held, (*_SERVERS, name))
    except paths.BadPath:
        return False
    return True


def _pair(text: str, default: str | None) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if default is None:
        raise CommandError("A header is written NAME=VALUE.", code="usage")
    return name, default


def _without(left_out: Mapping[str, str] | None) -> str:
    """The tools that no model is offered, in one line."""
    named = (f"{name!r} is left out: {why}" for name, why in (left_out or {}).items())
    return one_line("; ".join(named))


def _address(server: McpServerSettings) -> str:
    """The URL without its query, which may hold a key."""
    return server.url.partition("?")[0]
