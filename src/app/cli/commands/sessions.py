"""`opensoul sessions`: list, show, reset, compact and delete conversations."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ...terminal import confirm, echo, print_fields, print_table, when
from ..common.lazy import ListGroup
from ..common.state import State, print_json
from ..remote import rpc
from ..remote.reaching import ADMIN, READ, wire_options

if TYPE_CHECKING:
    from ....client import Client

_COLUMNS = ("key", "label", "updated", "tokens", "model", "")


@click.group(cls=ListGroup, options=wire_options)
@wire_options
def sessions() -> None:
    """Manage sessions; without a command, list them."""


@sessions.subcommand("list")
@click.option("--agent", "agent_id", metavar="ID", help="Of this agent only.")
@click.option("--search", metavar="TEXT", help="Only those whose key, label or id contains this.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), help="Skip this many.")
def list_sessions(
    state: State, agent_id: str | None, search: str | None, limit: int, offset: int | None
) -> None:
    """List sessions, the last used first."""
    params = {"agentId": agent_id, "search": search, "limit": limit, "offset": offset}
    rpc.show(state, "sessions.list", params, scopes=READ, text=_print_table)


def _print_table(answer: Any) -> None:
    from ....client.results import rows, session_info

    listed = map(session_info, rows(answer, "sessions"))
    table = [
        (
            info.key,
            info.label,
            when(info.updated_at),
            info.total_tokens,
            info.model,
            "running" if info.running else "",
        )
        for info in listed
    ]
    print_table(_COLUMNS, table, empty="There are no sessions yet.")


@sessions.subcommand()
@click.argument("key")
@click.option("--messages", type=click.IntRange(0, 1000), default=10, show_default=True)
def show(state: State, key: str, messages: int) -> None:
    """Show a session and its newest messages."""
    from ....client.results import chat_message, rows
    from ..common.errors import CommandError

    async def ask(client: Client) -> tuple[Any, Any]:
        described = await client.call("sessions.describe", {"key": key})
        if not messages or not described.get("session"):
            return described, {}
        params = {"sessionKey": key, "limit": messages}
        return described, await client.call("chat.history", params)

    described, history = rpc.with_client(state, ask, scopes=READ)
    session = described.get("session")
    if not session:
        raise CommandError(f"There is no session {key!r}.", code="session_not_found")
    kept = rows(history, "messages")
    if state.json:
        print_json({"session": session, "messages": kept})
        return
    print_fields(_fields(session))
    for message in map(chat_message, kept):
        echo(f"\n{message.role}:\n{message.text}")


@sessions.subcommand()
@click.argument("key")
def reset(state: State, key: str) -> None:
    """Reset a session; its old transcript is kept."""
    _change(state, "sessions.reset", {"key": key}, f"{key} is reset.")


@sessions.subcommand()
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(state: State, key: str, yes: bool) -> None:
    """Delete a session and its transcript."""
    if not yes and sys.stdin.isatty():
        confirm(f"Delete the session {key}?")
    _change(state, "sessions.delete", {"key": key}, f"{key} is deleted.")


@sessions.subcommand()
@click.argument("key")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Keep the newest N messages.")
def compact(state: State, key: str, keep: int | None) -> None:
    """Replace a session's older messages by a summary of its model."""
    params = {"key": key, "maxLines": keep}
    _change(state, "sessions.compact", params, f"{key} is compacted.")


def _change(state: State, method: str, params: dict[str, Any], done: str) -> None:
    def text(answer: Any) -> str:
        if answer.get("deleted") is False or answer.get("compacted") is False:
            reason = str(answer.get("reason") or "there is no such session")
            return f"Nothing to do: {reason.rstrip('.')}."
        return done

    rpc.show(state, method, params, scopes=ADMIN, text=text)


def _fields(session: dict[str, Any]) -> tuple[tuple[str, object], ...]:
    from ....client.results import session_info

    info = session_info(session)
    return (
        ("key", info.key),
        ("label", session.get("label")),
        ("agent", info.agent_id),
        ("transcript", info.session_id),
        ("model", info.model),
        ("thinking", session.get("thinkingLevel")),
        ("updated", when(info.updated_at)),
        ("messages", session.get("messageCount")),
        ("tokens", info.total_tokens),
        ("running", "yes" if info.running else None),
    )
