"""Providers that speak OpenAI's chat completions."""

from .client import OpenAICompletions

__all__ = [
    "OpenAICompletions",
]
