"""The client of providers with Anthropic's Messages API."""

from .client import AnthropicMessages

__all__ = [
    "AnthropicMessages",
]
