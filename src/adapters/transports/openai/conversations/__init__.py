"""OpenAI's Conversations API over HTTP: items that responses add to."""

from .transport import transport

__all__ = ["transport"]
