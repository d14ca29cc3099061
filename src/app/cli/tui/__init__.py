"""The chat in the terminal. Imported only where it is shown: textual takes its time."""

from __future__ import annotations

from .chat import Chat

__all__ = ["Chat"]
