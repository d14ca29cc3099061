"""OpenAI's chat completions over HTTP."""

from .answers import Frames, Head, completion
from .request import ChatRequest, read_request
from .transport import transport

__all__ = ["ChatRequest", "Frames", "Head", "completion", "read_request", "transport"]
