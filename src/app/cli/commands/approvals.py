"""`opensoul approvals`: tool calls that wait for a person, and decisions on them."""

from __future__ import annotations

import json
from typing import Any

import click

from ...terminal import echo
from ..common.lazy import ListGroup
from ..common.state import State
from ..remote.reaching import APPROVALS, wire_options

_COLUMNS = ("approval", "agent", "session", "tool", "arguments", "expires")


@click.group(cls=ListGroup)
@wire_options
def approvals() -> None:
    """Allow or deny tool calls that wait; without a command, list them."""


@approvals.command("list")
@wire_options
@click.pass_obj
def list_approvals(state: State) -> None:
    """List the tool calls that wait for a decision, the oldest first."""
    from ..remote.rpc import show

    show(state, "approval.list", scopes=APPROVALS, text=_print_table)


def _print_table(answer: Any) -> None:
    from ....client.results import approval_info, rows
    from ...terminal import print_table, when

    def cells(row: Any) -> tuple[object, ...]:
        info = approval_info(row)
        call = (info.tool, _arguments(info.arguments))
        return (info.id, info.agent_id, info.session_key, *call, when(info.expires_at))

    table = map(cells, rows(answer, "approvals"))
    print_table(_COLUMNS, table, empty="No tool call waits for a decision.")


@approvals.command("get")
@click.argument("approval_id", metavar="ID")
@wire_options
@click.pass_obj
def get(state: State, approval_id: str) -> None:
    """Show one approval, with all arguments of the call."""
    from ..remote.rpc import show

    show(state, "approval.get", {"id": approval_id}, scopes=APPROVALS, text=_print_whole)


def _print_whole(answer: Any) -> None:
    from ....client.results import approval_info
    from ...terminal import print_fields, when

    info = approval_info(answer)
    print_fields(
        (
            ("approval", info.id),
            ("agent", info.agent_id),
            ("session", info.session_key),
            ("run", info.run_id),
            ("requested", when(info.created_at)),
            ("expires", when(info.expires_at)),
            ("decision", info.decision),
            ("tool", info.tool),
        )
    )
    echo(f"\n{_arguments(info.arguments)}")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--always", is_flag=True, help="Also this agent's later calls with these arguments.")
@wire_options
@click.pass_obj
def allow(state: State, approval_id: str, always: bool) -> None:
    """Allow a tool call."""
    said = "Allowed, now and later." if always else "Allowed."
    _decide(state, approval_id, "allow-always" if always else "allow-once", said)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@wire_options
@click.pass_obj
def deny(state: State, approval_id: str) -> None:
    """Deny a tool call; the model is informed and goes on."""
    _decide(state, approval_id, "deny", "Denied.")


@approvals.command()
@wire_options
@click.pass_obj
def standing(state: State) -> None:
    """List what was allowed with --always."""
    from ..remote.rpc import show

    show(state, "approval.standing.list", scopes=APPROVALS, text=_print_standing)


def _print_standing(answer: Any) -> None:
    from ....client.results import rows, standing_approval_info
    from ...terminal import print_table, when

    def cells(row: Any) -> tuple[object, ...]:
        info = standing_approval_info(row)
        call = (info.tool, _arguments(info.arguments))
        return (info.id, info.agent_id, *call, info.granted_by, when(info.granted_at))

    columns = ("id", "agent", "tool", "arguments", "allowed by", "at")
    print_table(
        columns, map(cells, rows(answer, "standing")), empty="Nothing was allowed for later calls."
    )


@approvals.command()
@click.argument("standing_id", metavar="ID")
@wire_options
@click.pass_obj
def revoke(state: State, standing_id: str) -> None:
    """Have calls that were allowed with --always wait again."""
    from ..remote.rpc import show

    params = {"id": standing_id}
    done = "Such calls wait for approval again."
    show(state, "approval.standing.revoke", params, scopes=APPROVALS, text=lambda _: done)


def _decide(state: State, approval_id: str, decision: str, said: str) -> None:
    from ..remote.rpc import show

    params = {"id": approval_id, "decision": decision}
    show(state, "approval.resolve", params, scopes=APPROVALS, text=lambda _: said)


def _arguments(arguments: object) -> str:
    """On one line, with control and format characters as escapes."""
    from ....domain.text import escape_json

    return escape_json(json.dumps(arguments, ensure_ascii=False))
