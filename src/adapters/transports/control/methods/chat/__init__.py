"""The methods that talk to an agent: chat and agent runs, heartbeats."""

from .heartbeats import Heartbeats
from .methods import AbortParams, ChatMethods, IdempotencyKey, Milliseconds, SendParams

__all__ = [
    "AbortParams",
    "ChatMethods",
    "Heartbeats",
    "IdempotencyKey",
    "Milliseconds",
    "SendParams",
]
