"""The ModelClient for providers with OpenAI's chat completions API."""

from __future__ import annotations

import time

from ....domain.models import ModelRequest, Provider
from ....domain.ports import Clock
from ..http import ApiDescription, FailureFactory, HttpModelClient
from .answer import Answer, is_complete
from .request import Encoder, body

CHAT_COMPLETIONS = ApiDescription(
    "chat completions", "a chat completion", lambda path: path + "/chat/completions"
)


class OpenAICompletions(HttpModelClient):
    """Calls chat completions, always as a stream."""

    def __init__(self, *, now: Clock = time.time, end_timeout: float | None = None) -> None:
        super().__init__(_ChatCompletions(), now=now, end_timeout=end_timeout)


class _ChatCompletions:
    """Implements Api."""

    description = CHAT_COMPLETIONS

    def __init__(self) -> None:
        self._encode = Encoder()

    def headers(self, provider: Provider) -> dict[str, str]:
        return authorization(provider)

    def body(self, request: ModelRequest, failures: FailureFactory) -> bytes:
        return body(request, self._encode, failures)

    def answer(self, failures: FailureFactory, content_type: str, wait: float | None) -> Answer:
        return Answer(failures, content_type, wait)

    def is_complete(self, body: bytes) -> bool:
        return is_complete(body)


def authorization(provider: Provider) -> dict[str, str]:
    """The header with the key."""
    if provider.api_key and provider.auth_header:
        return {"Authorization": f"Bearer {provider.api_key.reveal()}"}
    return {}
