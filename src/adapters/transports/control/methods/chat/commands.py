"""Chat commands such as `/status`, which the Gateway answers without a model."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ......domain.errors import InvalidRequest, SessionBusy, UnknownSession
from ......domain.sessions import SessionKey
from ...broadcast import Hub, chat_event, message_of
from ...connection import ANSWERED, Call
from ...dependencies import Dependencies
from ..service import ControlService

_KEPT = 1_000
"""Executed commands that are remembered, so that a repeated request has no second effect."""
_MOST_MODELS = 50
_COMPACTED = 400
"""Default number of messages kept by `/compact`, as for `sessions.compact`."""
_COMMAND = re.compile(r"/([a-z]+)(?:[:\s]\s*(\S.*)?)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command. `argument`: the name of its argument, if it takes one."""

    name: str
    description: str
    aliases: tuple[str, ...] = ()
    argument: str | None = None


COMMANDS = (
    Command("status", "Show the session, its model, and the tokens it has used."),
    Command("help", "Show the commands.", ("commands",)),
    Command("model", "Show the session's model, or choose one.", argument="model"),
    Command("think", "Show how much the model thinks, or set it.", ("thinking", "t"), "level"),
    Command("compact", "Go on with the session's newest messages alone.", argument="count"),
    Command("new", "Start the session over; the old transcript is kept."),
    Command("reset", "The same as /new."),
    Command("stop", "Stop every run of the session."),
    Command("abort", "The same as /stop."),
)

Answer = Callable[[Call, SessionKey, str], Awaitable[str]]
"""Answers a command with its argument, which may be empty."""


class Commands(ControlService):
    """Finds and executes commands."""

    def __init__(self, dependencies: Dependencies, hub: Hub) -> None:
        super().__init__(dependencies, hub)
        self._answered: OrderedDict[tuple[SessionKey, str], None] = OrderedDict()
        self._answers: dict[str, Answer] = {
            "status": self._status,
            "help": self._help,
            "model": self._model,
            "think": self._think,
            "compact": self._compact,
        }

    def find(self, message: str) -> tuple[Answer, str] | None:
        """The function and argument of the command in a message; None if it is not a command.

        A message with other text, or with an argument for a command without one, is not a command.
        """
        match = _COMMAND.fullmatch(message.strip())
        if match is None:
            return None
        name, argument = match[1].lower(), (match[2] or "").strip()
        for command in COMMANDS:
            if name in (command.name, *command.aliases) and command.name in self._answers:
                stands_alone = command.argument is not None or not argument
                return (self._answers[command.name], argument) if stands_alone else None
        return None

    async def run(
        self, call: Call, key: SessionKey, run_id: str, found: tuple[Answer, str]
    ) -> object:
        """Respond like `chat.send`, and send the command's text as the `final` event of a run.

        Raises Forbidden.
        """
        answer, argument = found
        if self.answered(key, run_id):
            return {"runId": run_id, "status": "ok"}
        with self.noted(key, run_id):
            try:
                text = await answer(call, key, argument)
            except (InvalidRequest, UnknownSession, SessionBusy) as error:
                text = error.message
        await self.hub.subscribe(call.connection, key)
        call.answer({"runId": run_id, "status": "started"})
        message = message_of(text, self.clock())
        event = chat_event(run_id, key, 0, "final", stopReason="command", message=message)
        self.hub.send_to_session(key, "chat", event)
        return ANSWERED

    def note(self, key: SessionKey, run_id: str) -> None:
        """Remember that a command was executed."""
        self._answered[key, run_id] = None
        if len(self._answered) > _KEPT:
            self._answered.popitem(last=False)

    @contextmanager
    def noted(self, key: SessionKey, run_id: str) -> Iterator[None]:
        """Like `note`, but forget the command if it fails within the context."""
        self.note(key, run_id)
        try:
            yield
        except BaseException:
            self._answered.pop((key, run_id), None)
            raise

    def answered(self, key: SessionKey, run_id: str) -> bool:
        """Whether the request was a command that has been executed."""
        return (key, run_id) in self._answered

    async def _status(self, call: Call, key: SessionKey, argument: str) -> str:
        agent = self.gateway.settings.agents.get(key.agent_id)
        info = await self.session_service.find(call.principal, key)
        lines = [f"OpenSoul Gateway {self.dependencies.facts.version}"]
        lines.append(f"Agent: {key.agent_id}" + (f" ({agent.name})" if agent is not None else ""))
        lines.append(f"Session: {key}")
        lines.append(f"Model: {await self._current(call, key)}")
        lines.append(f"Thinking: {await self._level(call, key)}")
        if info is not None:
            lines.append(
                f"Messages: {info.message_count}; "
                f"tokens: {info.input_tokens} in, {info.output_tokens} out"
            )
        lines.append(f"Runs of this session: {len(await self.gateway.active(call.principal, key))}")
        return "\n".join(lines)

    async def _help(self, call: Call, key: SessionKey, argument: str) -> str:
        return "\n".join(
            f"/{command.name}{f' <{command.argument}>' if command.argument else ''}: "
            f"{command.description}"
            for command in COMMANDS
        )

    async def _model(self, call: Call, key: SessionKey, argument: str) -> str:
        if argument and argument.lower() not in ("list", "status"):
            chosen = None if argument.lower() == "default" else argument
            await self.session_service.patch(call.principal, key, {"model": chosen})
            return f"Model: {await self._current(call, key)}"
        refs = [target.ref for target in self.gateway.models(call.principal)][:_MOST_MODELS]
        return "\n".join(
            (
                f"Model: {await self._current(call, key)}",
                f"Choose with /model <provider/model>, or /model default: {', '.join(refs)}",
            )
        )

    async def _think(self, call: Call, key: SessionKey, argument: str) -> str:
        if argument:
            level = None if argument.lower() == "default" else argument
            await self.session_service.patch(call.principal, key, {"thinkingLevel": level})
        return f"Thinking: {await self._level(call, key)}"

    async def _compact(self, call: Call, key: SessionKey, argument: str) -> str:
        if argument and (not argument.isdecimal() or int(argument) < 1):
            raise InvalidRequest(
                "/compact takes the number of messages that stay, such as /compact 20. The newest "
                "messages stay as they are; no summary is written."
            )
        keep = int(argument) if argument else _COMPACTED
        compacted = await self.session_service.compact(call.principal, key, keep)
        if not compacted.changed:
            return f"Nothing to compact: the session has {compacted.kept} messages."
        return (
            f"Compacted: the newest {compacted.kept} messages stay; the whole transcript is kept."
        )

    async def _current(self, call: Call, key: SessionKey) -> str:
        info = await self.session_service.find(call.principal, key)
        if info is not None:
            model = self.rows.resolved(info)
        else:
            agent = self.gateway.settings.agents.find(key.agent_id, param="sessionKey")
            target = next(iter(agent.models), None)
            return "none" if target is None else target.ref
        return f"{model['modelProvider']}/{model['model']}" if model["model"] else "none"

    async def _level(self, call: Call, key: SessionKey) -> str:
        info = await self.session_service.find(call.principal, key)
        return str(info.settings.get("thinkingLevel", "default") if info is not None else "default")
