"""The methods that talk to an agent: chat and agent runs, slash commands, heartbeats."""

from .commands import COMMANDS, Command, Commands
from .heartbeats import Heartbeats
from .methods import AbortParams, ChatMethods, IdempotencyKey, Milliseconds, SendParams

__all__ = [
    "COMMANDS",
    "AbortParams",
    "ChatMethods",
    "Command",
    "Commands",
    "Heartbeats",
    "IdempotencyKey",
    "Milliseconds",
    "SendParams",
]
