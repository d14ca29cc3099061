"""`opensoul tui`: a chat in the terminal."""

from __future__ import annotations

import sys

import click

from ..common.errors import CommandError
from ..common.state import State
from ..remote.reaching import ADMIN, APPROVALS, WRITE, reach, wire_options
from ..remote.rpc import client_errors


@click.command()
@click.option("--session", "session_key", metavar="KEY", help="The session to open.")
@click.option("--agent", "agent_id", metavar="ID", help="Whose main session to open.")
@wire_options
@click.pass_obj
def tui(state: State, session_key: str | None, agent_id: str | None) -> None:
    """Chat with an agent in the terminal.

    Esc or Ctrl-C stops an answer; Ctrl-S chooses a session, Ctrl-R shows a tool call that waits
    for your approval, Ctrl-Q quits. /help lists the commands, such as /status and /new.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError(
            "The chat needs a terminal; use `opensoul agent` without one.", code="no_terminal"
        )
    from ..tui import Chat

    target = reach(state)
    # ADMIN is for /new, /reset and /compact.
    scopes = (*WRITE, *APPROVALS, *(ADMIN if target.has_secret else ()))
    with client_errors(target):
        chat = Chat(target.options(scopes), session_key=session_key, agent_id=agent_id)
        chat.run()
        if chat.failure is not None:
            raise chat.failure
