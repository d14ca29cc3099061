"""How a provider's answer is read: body, events, chunks and usage."""

from .body import Body
from .stream import Answer

__all__ = [
    "Answer",
    "Body",
]
