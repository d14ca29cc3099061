"""Methods of a conversation: send, abort, history and commands."""

from .commands import COMMANDS, Command, Commands
from .history import handlers
from .methods import ChatMethods
from .params import AbortParams, Milliseconds, SendParams

__all__ = [
    "COMMANDS",
    "AbortParams",
    "ChatMethods",
    "Command",
    "Commands",
    "Milliseconds",
    "SendParams",
    "handlers",
]
