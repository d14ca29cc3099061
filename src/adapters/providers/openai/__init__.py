"""The clients of providers with OpenAI's chat completions and embeddings APIs."""

from .client import CHAT_COMPLETIONS, OpenAICompletions
from .embeddings import OpenAIEmbeddings

__all__ = [
    "CHAT_COMPLETIONS",
    "OpenAICompletions",
    "OpenAIEmbeddings",
]
