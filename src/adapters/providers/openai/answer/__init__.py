"""Reads a provider's answer: chunks, tool calls, usage."""

from .stream import Answer, is_complete

__all__ = [
    "Answer",
    "is_complete",
]
