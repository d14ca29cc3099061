"""`opensoul runs`: list, show, follow and abort the runs of all transports."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo, echo_json, print_fields, print_table, when
from ..common.errors import CommandError
from ..common.lazy import ListGroup
from ..common.state import State, remembered
from ..remote import rpc
from ..remote.reaching import READ, WRITE, wire_options

if TYPE_CHECKING:
    from ....client import Client, RunEvent

_COLUMNS = ("run", "status", "agent", "session", "started", "ended", "events")


_WAITING = remembered(
    "--waiting", is_flag=True, help="Only those that wait for their turn or for a free slot."
)


@click.group(cls=ListGroup, options=wire_options)
@_WAITING
@wire_options
def runs() -> None:
    """Look at runs; without a command, list them."""


@runs.subcommand("list")
@click.option("--session", "session_key", metavar="KEY", help="Of this session only.")
@click.option("--agent", "agent_id", metavar="ID", help="Of this agent only.")
@click.option("--status", metavar="STATUS", help="running, finished, failed, aborted, ….")
@_WAITING
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--cursor", metavar="TEXT", help="Continue after the page that printed this cursor.")
def list_runs(
    state: State,
    session_key: str | None,
    agent_id: str | None,
    status: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List runs, newest first."""
    if state.options.get("waiting"):
        status = "queued"
    chosen = {"sessionKey": session_key, "agentId": agent_id, "status": status}
    params = {**chosen, "limit": limit, "cursor": cursor}
    rpc.show(state, "runs.list", params, scopes=READ, text=_print_table)


def _print_table(answer: Any) -> None:
    from ....client.results import rows

    print_table(_COLUMNS, map(_cells, rows(answer, "runs")), empty="There are no such runs.")
    if answer.get("nextCursor"):
        echo(f"There are more: --cursor {answer['nextCursor']}", err=True)


@runs.subcommand()
@click.argument("run_id")
def show(state: State, run_id: str) -> None:
    """Show one run."""

    def text(answer: Any) -> None:
        print_fields(zip(_COLUMNS, _cells(answer), strict=True))

    rpc.show(state, "runs.get", {"runId": run_id}, scopes=READ, text=text)


@runs.subcommand()
@click.argument("run_id")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Skip events up to this one.")
def follow(state: State, run_id: str, after: int) -> None:
    """Print the text of a run from its start until it ends.

    With --json, each event on a line of its own. A lost connection is made again without
    repeating events. Ctrl-C stops following, not the run.
    """
    from ....client import Aborted, Failed, TextDelta
    from ..remote.turns import Show

    shown = Show(not state.json)

    async def ask(client: Client) -> RunEvent | None:
        last = None
        async for last in client.follow(run_id, after_seq=after).events():
            if state.json:
                echo_json({"event": type(last).__name__, **asdict(last)})
            elif isinstance(last, TextDelta):
                shown.text(last.text)
        return last

    try:
        last = rpc.with_client(state, ask, scopes=READ, reconnect=True)
    finally:
        shown.end()
    if isinstance(last, Failed):
        raise CommandError(last.message, code=last.code or "run_failed")
    if isinstance(last, Aborted):
        raise CommandError(f"The run was aborted: {last.reason or 'stopped'}", code="run_aborted")


@runs.subcommand()
@click.argument("run_id")
def abort(state: State, run_id: str) -> None:
    """Stop a run."""

    def text(answer: Any) -> str:
        return "Aborted." if answer.get("aborted") else "The run had ended already."

    rpc.show(state, "runs.abort", {"runId": run_id}, scopes=WRITE, text=text)


def _cells(row: Any) -> tuple[object, ...]:
    """A run in the order of the columns."""
    from ....client.results import run_info

    info = run_info(row)
    times = (when(info.started_at), when(info.ended_at))
    return (info.id, info.status, info.agent_id, info.session_key, *times, info.last_seq)
