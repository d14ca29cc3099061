"""Carries out chat commands, each for the principal that issued it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

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
from ..models import ModelTarget, StopReason, TextDelta, Usage
from ..ports import CurrentSettings, RunContext, Toolbox, ToolContext
from ..runs import Answered, RunnerEvents
from ..sessions import SessionInfo, SessionKey, applied_to
from ..text import escape_line
from .active_runs import ActiveRuns
from .approvals import Approvals
from .sessions import SessionService

_MOST_SHOWN = 50
"""Models or approvals that an answer lists."""
_LONGEST_DESCRIPTION = 200
_COMPACTED = 400
"""Messages that `/compact` keeps, as by default `sessions.compact`."""
_NOTHING_DONE = (Forbidden, GatewayBusy, InvalidRequest, SessionBusy, Unavailable, UnknownSession)
"""Errors whose message is the answer."""
_OF_SESSIONS = (
    CommandName.COMPACT,
    CommandName.MODEL,
    CommandName.NEW,
    CommandName.RESET,
    CommandName.STOP,
    CommandName.THINK,
)


class Compact(Protocol):
    """Shortens what a model gets of a Session."""

    async def __call__(self, principal: Principal, key: SessionKey, instructions: str) -> str:
        """What was done, in a sentence. `instructions`: of the person, for the summary. Raises
        Forbidden, UnknownSession, SessionBusy, InvalidRequest."""
        ...


class KeepNewest:
    """Goes on with the newest messages alone."""

    def __init__(self, session_service: SessionService) -> None:
        self._session_service = session_service

    async def __call__(self, principal: Principal, key: SessionKey, instructions: str) -> str:
        if instructions:
            raise InvalidRequest(
                "/compact takes no instructions: the newest messages stay as they are, and no "
                "summary is written."
            )
        compacted = await self._session_service.compact(principal, key, _COMPACTED)
        if not compacted.changed:
            return f"Nothing to compact: the session has {compacted.kept} messages."
        return (
            f"Compacted: the newest {compacted.kept} messages stay; the whole transcript is kept."
        )


class CommandRunner:
    """The AgentRunner of Runs that are commands: the answer is what the command has done, and no
    model is called."""

    def __init__(
        self,
        *,
        settings: CurrentSettings,
        session_service: SessionService,
        active_runs: ActiveRuns,
        approvals: Approvals,
        toolbox: Toolbox,
        compact: Compact,
    ) -> None:
        self._settings = settings
        self._session_service = session_service
        self._active_runs = active_runs
        self._approvals = approvals
        self._toolbox = toolbox
        self._compact = compact

    async def run(self, context: RunContext) -> AsyncGenerator[RunnerEvents]:
        command = context.spec.command
        if command is None:
            raise TypeError(f"run {context.spec.id!r} is no command")
        try:
            text = await self._answer(context, command)
        except Forbidden as error:
            text = f"/{command.name} was not carried out: {error.message}."
        except _NOTHING_DONE as error:
            text = error.message
        yield [TextDelta(text), Answered((), StopReason.STOP, Usage(0, 0), "")]

    def history_budget(self, context: RunContext) -> int:
        """A command reads no history."""
        return 0

    async def _answer(self, context: RunContext, command: ChatCommand) -> str:
        """Raises the errors of `_NOTHING_DONE`."""
        spec = context.spec
        principal = spec.principal
        require(principal, command.needs)
        if spec.one_off and command.name in _OF_SESSIONS:
            hint = _no_session(command.session_hint)
            return f"/{command.name} needs a session, and this request has {hint}"
        key = spec.session_key
        match command.name:
            case CommandName.HELP:
                return _help()
            case CommandName.STATUS:
                return await self._status(context, command)
            case CommandName.TOOLS:
                return await self._tools(principal, context)
            case CommandName.MODEL:
                return await self._model(principal, context, command.argument)
            case CommandName.THINK:
                return await self._think(principal, key, command.argument)
            case CommandName.COMPACT:
                return await self._compact(principal, key, command.argument)
            case CommandName.NEW | CommandName.RESET:
                await self._session_service.reset(principal, key)
                return "The session starts over. The old transcript is kept."
            case CommandName.STOP:
                return await self._stop(principal, key)

    async def _stop(self, principal: Principal, key: SessionKey) -> str:
        stopped = await self._active_runs.stop(principal, key, f"Aborted by {principal.id}.")
        match len(stopped):
            case 0:
                return "No run of this session is going on."
            case 1:
                return "The run was stopped."
            case count:
                return f"{count} runs were stopped."

    async def _status(self, context: RunContext, command: ChatCommand) -> str:
        spec, agent, principal = context.spec, context.agent, context.spec.principal
        info = (
            None if spec.one_off else await self._session_service.find(principal, spec.session_key)
        )
        model = _model_of(self._as_set(agent, info))
        lines = [
            f"Agent: {agent.id}" + (f" ({agent.name})" if agent.name != agent.id else ""),
            f"Session: {_no_session(command.session_hint) if spec.one_off else spec.session_key}",
            f"Model: {'none' if model is None else model.ref}",
            f"Thinking: {_level(info)}",
        ]
        if not spec.one_off:
            messages, read, written = (
                (0, 0, 0)
                if info is None
                else (info.message_count, info.input_tokens, info.output_tokens)
            )
            lines.append(f"Messages: {messages}; tokens: {read} in, {written} out")
            runs = await self._active_runs.of(principal, spec.session_key)
            lines.append(f"Runs at work: {sum(run.command is None for run in runs)}")
        lines.append(await self._pending(principal))
        return "\n".join(lines)

    async def _pending(self, principal: Principal) -> str:
        if not may(principal, Action.DECIDE_APPROVAL):
            return "Pending approvals: not shown without the scope operator.approvals"
        pending = await self._approvals.pending(principal)
        if not pending:
            return "Pending approvals: none"
        shown = [f"{escape_line(one.call.name)} in {one.session_key}" for one in pending]
        return f"Pending approvals: {len(pending)} ({', '.join(shown[:_MOST_SHOWN])})"

    async def _tools(self, principal: Principal, context: RunContext) -> str:
        spec = context.spec
        info = (
            None if spec.one_off else await self._session_service.find(principal, spec.session_key)
        )
        agent = self._as_set(context.agent, info)
        offered = await self._toolbox.tools(
            ToolContext(agent, spec.id, spec.session_key, principal.id, principal.scopes, principal)
        )
        if not offered:
            return f"The agent {agent.id} is offered no tools."
        lines = [f"Tools of the agent {agent.id}:"]
        for tool in offered:
            asks = " (calls may wait for approval)" if tool.ask else ""
            lines.append(f"{escape_line(tool.name)}{asks}: {_summary(tool.description)}")
        return "\n".join(lines)

    async def _model(self, principal: Principal, context: RunContext, argument: str) -> str:
        key, models = context.spec.session_key, self._settings().models
        if argument:
            chosen = None if argument.lower() == "default" else argument
            info: SessionInfo | None = await self._session_service.patch(
                principal, key, {"model": chosen}
            )
        else:
            info = await self._session_service.find(principal, key)
        model = _model_of(self._as_set(context.agent, info))
        line = f"Model: {'none' if model is None else model.ref}"
        if argument:
            return line
        refs = [target.ref for target in models.selectable][:_MOST_SHOWN]
        return f"{line}\nChoose with /model <provider/model>, or /model default: {', '.join(refs)}"

    async def _think(self, principal: Principal, key: SessionKey, argument: str) -> str:
        if argument:
            level = None if argument.lower() == "default" else argument
            info: SessionInfo | None = await self._session_service.patch(
                principal, key, {"thinkingLevel": level}
            )
        else:
            info = await self._session_service.find(principal, key)
        return f"Thinking: {_level(info)}"

    def _as_set(self, agent: Agent, info: SessionInfo | None) -> Agent:
        """The agent as it answers in the Session."""
        return agent if info is None else applied_to(agent, info.settings, self._settings().models)


def _no_session(hint: str) -> str:
    return f"none. To name one: {hint}." if hint else "none."


def _help() -> str:
    lines = [f"{info.usage}: {info.description}" for info in COMMANDS]
    return "\n".join([*lines, "Any other message is for the agent."])


def _model_of(agent: Agent) -> ModelTarget | None:
    return next(iter(agent.models), None)


def _level(info: SessionInfo | None) -> str:
    return "default" if info is None else str(info.settings.get("thinkingLevel", "default"))


def _summary(description: str) -> str:
    """The first line, shortened."""
    first = escape_line(description.strip().partition("\n")[0])
    if len(first) <= _LONGEST_DESCRIPTION:
        return first
    return f"{first[:_LONGEST_DESCRIPTION]} ..."
