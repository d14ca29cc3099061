"""`opensoul agent`: send a message to an agent and print the answer."""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import TYPE_CHECKING

import click

from ...terminal import echo
from ..common.errors import CommandError, report
from ..common.state import Seconds, State, print_json
from ..common.streams import read_text
from ..remote.reaching import ADMIN, APPROVALS, WRITE, Target, address_options, reach
from ..remote.rpc import client_errors, report_loss

if TYPE_CHECKING:
    from ..remote.turns import Ended, Question, Show

_INTERRUPTED = 130


@click.command()
@click.option(
    "-m", "--message", required=True, metavar="TEXT", help="The message; - reads standard input."
)
@click.option("--agent", "agent_id", metavar="ID", help="The agent; default: the default agent.")
@click.option("--session-key", metavar="KEY", help="The session; default: the agent's main one.")
@click.option("--session-id", metavar="ID", help="The session, by the id of its transcript.")
@click.option("--thinking", metavar="LEVEL", help="How much to think: off, low, medium, high, ….")
@click.option(
    "--timeout",
    "run_timeout",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="How long the run may take, at most as long as configured. 0 or none: as configured.",
)
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Stream the answer, or print it at the end. Default: stream on a terminal.",
)
@click.option("--local", is_flag=True, help="Run it in this process, without a Gateway.")
@address_options
@click.pass_obj
def agent(
    state: State,
    message: str,
    agent_id: str | None,
    session_key: str | None,
    session_id: str | None,
    thinking: str | None,
    run_timeout: float | None,
    stream: bool | None,
    local: bool,
) -> int:
    """Ask an agent and print its answer.

    Ctrl-C stops the run, a second one exits at once. A message that the Gateway has accepted
    is never sent again; --json prints the final answer with its tokens.
    """
    from ..remote.turns import Question, Show

    question = Question(
        message=_message(message),
        key=str(uuid.uuid4()),
        agent_id=agent_id,
        session_key=session_key,
        session_id=session_id,
        thinking=thinking,
        timeout=run_timeout,
    )
    streaming = not state.json and (sys.stdout.isatty() if stream is None else stream)
    show = Show(streaming, quiet=state.json)
    try:
        ended = _answer(state, question, show, local=local)
    finally:
        show.end()
    if ended.status == "interrupted":
        report(CommandError(ended.error, code="interrupted"), as_json=state.json)
        return _INTERRUPTED
    _print(state, ended, streamed=streaming)
    return 0


def _answer(state: State, question: Question, show: Show, *, local: bool) -> Ended:
    from ..remote.turns import ask_gateway

    if local:
        from ..remote.local_turns import ask_locally

        if any(name.startswith("wire_") for name in state.options):
            raise CommandError("--local uses no Gateway. Omit --url and secrets.", code="usage")
        return ask_locally(state, question, show)
    target = reach(state)
    options = target.options(_scopes(question, target))
    with client_errors(target):
        return asyncio.run(ask_gateway(options, question, show, report_loss(state, options)))


def _scopes(question: Question, target: Target) -> tuple[str, ...]:
    """Commands such as `/new` need more scopes than a message."""
    from ....domain.access import Action
    from ....domain.chat_commands import CommandName, parse_command

    command = parse_command(question.message)
    if command is not None and command.needs is Action.CHANGE_SESSION:
        return (*WRITE, *ADMIN)
    if command is not None and command.name is CommandName.STATUS and target.has_secret:
        return (*WRITE, *APPROVALS)
    return WRITE


def _message(text: str) -> str:
    message = read_text("--message") if text == "-" else text
    if not message.strip():
        raise click.BadParameter("must not be empty.", param_hint="--message")
    return message


def _print(state: State, ended: Ended, *, streamed: bool) -> None:
    """Print the answer, or raise CommandError."""
    if ended.status == "error":
        raise CommandError(ended.error or "The run failed.", code=ended.code or "run_failed")
    if ended.status == "aborted":
        raise CommandError(f"The run was aborted: {ended.error or 'stopped'}", code="run_aborted")
    if state.json:
        print_json(ended.payload)
    elif not streamed and ended.text:
        echo(ended.text)
