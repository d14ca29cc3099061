"""Carries out chat commands, each for the principal that issued it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ..access import Action, Principal, may, require
from ..agents import Agent
from ..chat_commands import COMMANDS, ChatCommand, CommandName
from ..errors import (
    Forbidden,
    GatewayBusy,
    InvalidRequest,
    SessionBusy,
    Unavailable,
    UnknownSession,
)
from ..models import StopReason, TextDelta, Usage
from ..ports import CurrentSettings, RunContext, Toolbox, ToolContext
from ..runs import Answered, RunnerEvents, RunSpec
from ..sessions import SessionInfo, SessionKey, applied_to
from ..text import escape_line
from .active_runs import ActiveRuns
from .approvals import Approvals
from .sessions import SessionService

_MOST_SHOWN = 50
"""Models or approvals that an answer lists."""
_LONGEST_DESCRIPTION = 200
_NOTHING_DONE = (Forbidden, GatewayBusy, InvalidRequest, SessionBusy, Unavailable, UnknownSession)
"""Errors whose message is the answer."""
_CHANGES = (Action.CHANGE_SESSION, Action.SET_SESSION, Action.STOP_RUN)


class CommandRunner:
    """The AgentRunner of Runs that are commands: the answer is what the command has done."""

    def __init__(
        self,
        *,
        settings: CurrentSettings,
        session_service: SessionService,
        active_runs: ActiveRuns,
        approvals: Approvals,
        toolbox: Toolbox,
    ) -> None:
        self._settings = settings
        self._session_service = session_service
        self._active_runs = active_runs
        self._approvals = approvals
        self._toolbox = toolbox

    async def run(self, context: RunContext) -> AsyncGenerator[RunnerEvents]:
        command = context.spec.command
        if command is None:
            raise TypeError(f"run {context.spec.id!r} is no command")
        try:
            text = await self._answer(context.spec, context.agent, command)
        except Forbidden as error:
            text = f"/{command.name} was not carried out: {error.message.rstrip('.')}."
        except _NOTHING_DONE as error:
            text = error.message
        yield [TextDelta(text), Answered((), StopReason.STOP, Usage(0, 0), "")]

    def history_budget(self, context: RunContext) -> int:
        """A command reads no history."""
        return 0

    async def _answer(self, spec: RunSpec, agent: Agent, command: ChatCommand) -> str:
        """Raises the errors of `_NOTHING_DONE`."""
        principal, key = spec.principal, spec.session_key
        require(principal, command.needs)
        if spec.one_off and command.needs in _CHANGES:
            return f"/{command.name} needs a session; this request has {_no_session(command)}"
        match command.name:
            case CommandName.HELP:
                return _help()
            case CommandName.STATUS:
                return await self._status(spec, agent, command)
            case CommandName.TOOLS:
                return await self._tools(spec, agent)
            case CommandName.MODEL:
                return await self._model(spec, agent, command)
            case CommandName.THINK:
                return f"Thinking: {_level(await self._chosen(spec, 'thinkingLevel', command))}"
            case CommandName.COMPACT:
                return await self._compact(principal, key, command.argument)
            case CommandName.NEW | CommandName.RESET:
                await self._session_service.reset(principal, key)
                return "The session starts over. The old transcript is kept."
            case CommandName.STOP:
                return await self._stop(principal, key)

    async def _compact(self, principal: Principal, key: SessionKey, instructions: str) -> str:
        outcome = await self._session_service.summarise(principal, key, instructions=instructions)
        if not outcome.compacted:
            return f"Nothing was compacted: {outcome.reason}"
        return (
            f"Compacted: about {outcome.before} tokens of the history have become {outcome.after}. "
            f"The newest {outcome.kept} messages stay as they are; the whole transcript is kept."
        )

    async def _stop(self, principal: Principal, key: SessionKey) -> str:
        stopped = await self._active_runs.stop(principal, key, f"Aborted by {principal.id}.")
        match len(stopped):
            case 0:
                return "No run of this session is going on."
            case 1:
                return "The run was stopped."
            case count:
                return f"{count} runs were stopped."

    async def _status(self, spec: RunSpec, agent: Agent, command: ChatCommand) -> str:
        info = await self._info(spec)
        lines = [
            f"Agent: {agent.id}" + (f" ({agent.name})" if agent.name != agent.id else ""),
            f"Session: {_no_session(command) if spec.one_off else spec.session_key}",
            f"Model: {_model_of(self._as_set(agent, info))}",
            f"Thinking: {_level(info)}",
        ]
        if info is not None:
            tokens = f"{info.input_tokens} in, {info.output_tokens} out"
            lines.append(f"Messages: {info.message_count}; tokens: {tokens}")
            lines.append(f"Compactions: {info.compactions}")
        if not spec.one_off:
            runs = await self._active_runs.of(spec.principal, spec.session_key)
            lines.append(f"Runs at work: {sum(run.command is None for run in runs)}")
        lines.append(await self._pending(spec.principal))
        return "\n".join(lines)

    async def _pending(self, principal: Principal) -> str:
        if not may(principal, Action.DECIDE_APPROVAL):
            return "Pending approvals: not shown without the scope operator.approvals"
        pending = await self._approvals.pending(principal)
        if not pending:
            return "Pending approvals: none"
        shown = [f"{escape_line(one.call.name)} in {one.session_key}" for one in pending]
        return f"Pending approvals: {len(pending)} ({', '.join(shown[:_MOST_SHOWN])})"

    async def _tools(self, spec: RunSpec, agent: Agent) -> str:
        principal = spec.principal
        offered = await self._toolbox.tools(
            ToolContext(
                agent=self._as_set(agent, await self._info(spec)),
                run_id=spec.id,
                session_key=spec.session_key,
                principal_id=principal.id,
                scopes=principal.scopes,
                principal=principal,
            )
        )
        if not offered:
            return f"The agent {agent.id} is offered no tools."
        lines = [f"Tools of the agent {agent.id}:"]
        for tool in offered:
            asks = " (calls may wait for approval)" if tool.ask else ""
            lines.append(f"{escape_line(tool.name)}{asks}: {_summary(tool.description)}")
        return "\n".join(lines)

    async def _model(self, spec: RunSpec, agent: Agent, command: ChatCommand) -> str:
        info = await self._chosen(spec, "model", command)
        line = f"Model: {_model_of(self._as_set(agent, info))}"
        if command.argument:
            return line
        refs = [target.ref for target in self._settings().models.selectable][:_MOST_SHOWN]
        return f"{line}\nChoose with /model <provider/model>, or /model default: {', '.join(refs)}"

    async def _chosen(
        self, spec: RunSpec, setting: str, command: ChatCommand
    ) -> SessionInfo | None:
        """The Session with the setting that the command's argument chooses; without one, as it
        is."""
        if not command.argument:
            return await self._info(spec)
        value = None if command.argument.lower() == "default" else command.argument
        return await self._session_service.patch(spec.principal, spec.session_key, {setting: value})

    async def _info(self, spec: RunSpec) -> SessionInfo | None:
        """None for a request without a session, or with one that has not begun."""
        if spec.one_off:
            return None
        return await self._session_service.find(spec.principal, spec.session_key)

    def _as_set(self, agent: Agent, info: SessionInfo | None) -> Agent:
        """The agent as it answers in the Session."""
        return agent if info is None else applied_to(agent, info.settings, self._settings().models)


def _no_session(command: ChatCommand) -> str:
    return f"none. To name one: {command.session_hint}." if command.session_hint else "none."


def _help() -> str:
    lines = [f"{info.usage}: {info.description}" for info in COMMANDS]
    return "\n".join([*lines, "Any other message is for the agent."])


def _model_of(agent: Agent) -> str:
    return agent.models[0].ref if agent.models else "none"


def _level(info: SessionInfo | None) -> str:
    return "default" if info is None else str(info.settings.get("thinkingLevel", "default"))


def _summary(description: str) -> str:
    """The first line, shortened."""
    first = escape_line(description.strip().partition("\n")[0])
    if len(first) <= _LONGEST_DESCRIPTION:
        return first
    return f"{first[:_LONGEST_DESCRIPTION]} ..."
