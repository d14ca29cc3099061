"""The client of providers with OpenAI's chat completions API."""

from .client import OpenAICompletions

__all__ = [
    "OpenAICompletions",
]
