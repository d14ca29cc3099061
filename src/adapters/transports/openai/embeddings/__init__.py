"""OpenAI's embeddings over HTTP."""

from .transport import transport

__all__ = ["transport"]
