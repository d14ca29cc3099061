"""`opensoul logs`: the log of the Gateway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo, echo_json
from ..common.state import State, print_json
from ..remote.reaching import READ, wire_options
from ..remote.rpc import with_client

if TYPE_CHECKING:
    from ....client import Client, LogPage


_HEAD = ("time", "level", "message")


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines.")
@click.option("--limit", type=click.IntRange(1, 5_000), default=200, show_default=True)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to poll for new lines.",
)
@wire_options
@click.pass_obj
def logs(state: State, follow: bool, limit: int, interval: float) -> None:
    """Print the newest lines of the Gateway's log.

    With --json, one object; with --follow as well, one JSON object a line.
    """

    async def ask(client: Client) -> None:
        page = await client.logs(limit=limit)
        if state.json and not follow:
            print_json({"lines": list(map(_entry, page.lines)), "cursor": page.cursor})
            return
        _print(state, page)
        while follow:
            await asyncio.sleep(interval)
            page = await _later(client, page, limit)
            _print(state, page)

    with_client(state, ask, scopes=READ, reconnect=follow)


async def _later(client: Client, page: LogPage, limit: int) -> LogPage:
    """The lines after a page; a lost connection is made again."""
    from ....client import ConnectionLost

    try:
        return await client.logs(limit=limit, cursor=page.cursor)
    except ConnectionLost:
        # Raises if the connection is not made again.
        await client.link()
        return type(page)((), page.cursor)


def _print(state: State, page: LogPage) -> None:
    for line in page.lines:
        entry = _entry(line)
        if state.json:
            echo_json(entry)
        else:
            # Indented, so that a line break in a value does not look like a new line of the log.
            echo(_plain(entry).replace("\n", "\n  "))


def _entry(line: str) -> dict[str, Any]:
    """The entry of a line; a line that is not JSON is a message."""
    import json

    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"message": line}


def _plain(entry: dict[str, Any]) -> str:
    """The entry as one line of text."""
    head = [str(entry[name]) for name in _HEAD if name in entry]
    more = [f"{name}={value}" for name, value in entry.items() if name not in (*_HEAD, "subsystem")]
    return "  ".join([*head, " ".join(more)] if more else head)
