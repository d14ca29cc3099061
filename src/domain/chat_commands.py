"""Chat commands such as `/status`: messages that the Gateway answers itself.

A message is a command only as a whole: a path, a question that begins with a slash, or a command
followed by other text is said to the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType

from .access import Action
from .messages import Message, Role, Text

LONGEST = 4_096
"""Characters of a command with its argument."""


class CommandName(StrEnum):
    HELP = "help"
    STATUS = "status"
    TOOLS = "tools"
    MODEL = "model"
    THINK = "think"
    COMPACT = "compact"
    NEW = "new"
    RESET = "reset"
    STOP = "stop"


class Argument(Enum):
    """What may follow the name of a command."""

    NONE = 0
    WORD = 1
    TEXT = 2


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """`shown`: the argument, as help shows it. `reads`, `changes`: the action without and with an
    argument."""

    name: CommandName
    description: str
    reads: Action
    argument: Argument = Argument.NONE
    shown: str = ""
    changes: Action | None = None

    @property
    def usage(self) -> str:
        """`/model [provider/model]`"""
        return f"/{self.name} [{self.shown}]" if self.shown else f"/{self.name}"


COMMANDS = (
    CommandInfo(CommandName.HELP, "Show the commands.", Action.SEE_AGENT),
    CommandInfo(
        CommandName.STATUS,
        "Show the agent, the session with its model and tokens, runs and approvals.",
        Action.SEE_SESSION,
    ),
    CommandInfo(
        CommandName.TOOLS,
        "Show the agent's tools, and which of them ask for approval.",
        Action.SEE_AGENT,
    ),
    CommandInfo(
        CommandName.MODEL,
        "Show the session's model and those that it may have, or choose one.",
        Action.SEE_MODELS,
        Argument.WORD,
        "provider/model",
        Action.SET_SESSION,
    ),
    CommandInfo(
        CommandName.THINK,
        "Show how much the model thinks, or choose a level.",
        Action.SEE_SESSION,
        Argument.WORD,
        "level",
        Action.SET_SESSION,
    ),
    CommandInfo(
        CommandName.COMPACT,
        "Replace the older messages by a summary for the model; the whole transcript is kept.",
        Action.CHANGE_SESSION,
        Argument.TEXT,
        "instructions",
    ),
    CommandInfo(
        CommandName.NEW,
        "Stop the session's runs and start it over; the old transcript is kept.",
        Action.CHANGE_SESSION,
    ),
    CommandInfo(CommandName.RESET, "The same as /new.", Action.CHANGE_SESSION),
    CommandInfo(CommandName.STOP, "Stop all runs of the session.", Action.STOP_RUN),
)
_BY_NAME: Mapping[str, CommandInfo] = MappingProxyType({one.name.value: one for one in COMMANDS})
_COMMAND = re.compile(r"/([A-Za-z]+)(?:\s+(\S.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """`session_hint`: how the client can name a session."""

    name: CommandName
    argument: str = ""
    session_hint: str = ""

    @property
    def needs(self) -> Action:
        """The action that a principal must be permitted."""
        info = _BY_NAME[self.name]
        return info.changes if self.argument and info.changes else info.reads


def parse_command(text: str) -> ChatCommand | None:
    """The command that a text is as a whole; None: it is said to the model."""
    if len(text) > LONGEST:
        return None
    match = _COMMAND.fullmatch(text.strip())
    info = None if match is None else _BY_NAME.get(match[1].lower())
    if match is None or info is None:
        return None
    argument = match[2] or ""
    most = {Argument.NONE: 0, Argument.WORD: 1, Argument.TEXT: LONGEST}[info.argument]
    if len(argument.split(maxsplit=1)) > most:
        return None
    return ChatCommand(info.name, argument)


def command_in(messages: Sequence[Message]) -> ChatCommand | None:
    """The command that the newest message is, where a user wrote it and it is nothing but text.
    System messages do not count."""
    last = next((one for one in reversed(messages) if one.role is not Role.SYSTEM), None)
    if last is None or last.role is not Role.USER or len(last.parts) != 1:
        return None
    (part,) = last.parts
    return parse_command(part.text) if isinstance(part, Text) else None
