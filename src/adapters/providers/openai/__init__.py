"""The client of providers with OpenAI's chat completions API."""

from .client import CHAT_COMPLETIONS, OpenAICompletions

__all__ = [
    "CHAT_COMPLETIONS",
    "OpenAICompletions",
]
