"""Reads a provider's answer: body, server-sent events, chunks, usage."""

from .body import Body
from .stream import Answer

__all__ = [
    "Answer",
    "Body",
]
