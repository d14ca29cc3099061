"""The chat in the terminal. Import it lazily, because textual takes long to import."""

from __future__ import annotations

from .chat import Chat

__all__ = ["Chat"]
