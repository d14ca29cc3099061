"""The list of models over HTTP, in OpenAI's format and in Anthropic's."""

from .transport import transport

__all__ = ["transport"]
