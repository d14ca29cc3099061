"""`opensoul runs`: every run, by whichever transport it was started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo, echo_json
from ..common.errors import CommandError
from ..common.lazy import Group
from ..common.state import State, print_json
from ..remote.reaching import READ, WRITE, wire_options

if TYPE_CHECKING:
    from ....client import Client, RunEvent

_COLUMNS = ("run", "status", "agent", "session", "started", "ended", "events")


@click.group(cls=Group, invoke_without_command=True)
@wire_options
@click.pass_context
def runs(ctx: click.Context) -> None:
    """Look at runs; without a command, list them."""
    if ctx.invoked_subcommand is None:
        _list(ctx.ensure_object(State), {"limit": 50})


@runs.command("list")
@click.option("--session", "session_key", metavar="KEY", help="Of this session only.")
@click.option("--agent", "agent_id", metavar="ID", help="Of this agent only.")
@click.option("--status", metavar="STATUS", help="running, finished, failed, aborted, ….")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--cursor", metavar="TEXT", help="Continue after the page that printed this cursor.")
@wire_options
@click.pass_obj
def list_runs(
    state: State,
    session_key: str | None,
    agent_id: str | None,
    status: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List runs, newest first."""
    chosen = {"sessionKey": session_key, "agentId": agent_id, "status": status}
    _list(state, {**chosen, "limit": limit, "cursor": cursor})


def _list(state: State, params: dict[str, Any]) -> None:
    from ....client.results import rows, run_info
    from ...terminal import print_table, when
    from ..remote.rpc import call

    answer = call(state, "runs.list", params, scopes=READ)
    if state.json:
        print_json(answer)
        return
    table = [
        (
            info.id,
            info.status,
            info.agent_id,
            info.session_key,
            when(info.started_at),
            when(info.ended_at),
            info.last_seq,
        )
        for info in map(run_info, rows(answer, "runs"))
    ]
    print_table(_COLUMNS, table, empty="There are no such runs.")
    if answer.get("nextCursor"):
        echo(f"There are more: --cursor {answer['nextCursor']}", err=True)


@runs.command()
@click.argument("run_id")
@wire_options
@click.pass_obj
def show(state: State, run_id: str) -> None:
    """Show one run."""
    from ....client.results import run_info
    from ...terminal import print_fields, when
    from ..remote.rpc import call

    answer = call(state, "runs.get", {"runId": run_id}, scopes=READ)
    if state.json:
        print_json(answer)
        return
    info = run_info(answer)
    print_fields(
        (
            ("run", info.id),
            ("status", info.status),
            ("agent", info.agent_id),
            ("session", info.session_key),
            ("started", when(info.started_at)),
            ("ended", when(info.ended_at)),
            ("events", info.last_seq),
        )
    )


@runs.command()
@click.argument("run_id")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Leave out events up to this.")
@wire_options
@click.pass_obj
def follow(state: State, run_id: str, after: int) -> None:
    """Print a run's text from its start, then as it comes, until it ends.

    With --json, each event on a line of its own. A lost connection is made again, and nothing is
    printed twice. Ctrl-C ends the following, not the run.
    """
    from ....client import Aborted, Failed, TextDelta
    from ..remote.rpc import talk
    from ..remote.turns import Show

    shown = Show(not state.json)

    async def ask(client: Client) -> RunEvent | None:
        last = None
        async for last in client.follow(run_id, after_seq=after).events():
            if state.json:
                _print_event(last)
            elif isinstance(last, TextDelta):
                shown.text(last.text)
        return last

    try:
        last = talk(state, ask, scopes=READ, reconnect=True)
    finally:
        shown.end()
    if isinstance(last, Failed):
        raise CommandError(last.message, code=last.code or "run_failed")
    if isinstance(last, Aborted):
        raise CommandError(f"The run was aborted: {last.reason or 'stopped'}", code="run_aborted")


@runs.command()
@click.argument("run_id")
@wire_options
@click.pass_obj
def abort(state: State, run_id: str) -> None:
    """Stop a run."""
    from ..remote.rpc import call

    answer = call(state, "runs.abort", {"runId": run_id}, scopes=WRITE)
    if state.json:
        print_json(answer)
    elif answer.get("aborted"):
        echo("Aborted.")
    else:
        echo("The run had ended already.")


def _print_event(event: RunEvent) -> None:
    from dataclasses import asdict

    row = {"event": type(event).__name__, **asdict(event)}
    echo_json(row)
