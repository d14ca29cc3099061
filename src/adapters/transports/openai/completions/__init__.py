"""OpenAI's older completions of a prompt over HTTP."""

from .transport import transport

__all__ = ["transport"]
