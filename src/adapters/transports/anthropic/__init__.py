"""Anthropic's Messages API over HTTP."""

from .transport import transport

__all__ = ["transport"]
