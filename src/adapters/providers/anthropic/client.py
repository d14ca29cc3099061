"""The ModelClient for providers with Anthropic's Messages API."""

from __future__ import annotations

import time

from ....domain.models import ModelRequest, Provider
from ....domain.ports import Clock
from ..http import ApiDescription, FailureFactory, HttpModelClient, PerMessage, json_text
from .answer import Answer
from .messages import blocks_of
from .request import body

_VERSION = "2023-06-01"


class AnthropicMessages(HttpModelClient):
    """Calls `POST /v1/messages`, always as a stream."""

    def __init__(self, *, now: Clock = time.time, end_timeout: float | None = None) -> None:
        super().__init__(_Messages(), now=now, end_timeout=end_timeout)


def _path(path: str) -> str:
    """Base URLs are in use with and without `/v1`, and with the whole path."""
    path = path.removesuffix("/messages").removesuffix("/v1")
    return path + "/v1/messages"


class _Messages:
    """Implements Api."""

    description = ApiDescription("Anthropic Messages", "a message of the Anthropic API", _path)

    def __init__(self) -> None:
        self._blocks = PerMessage(blocks_of)

    def headers(self, provider: Provider) -> dict[str, str]:
        headers = {"anthropic-version": _VERSION}
        if provider.api_key and provider.auth_header:
            headers["Authorization"] = f"Bearer {provider.api_key.reveal()}"
        elif provider.api_key:
            headers["x-api-key"] = provider.api_key.reveal()
        return headers

    def body(self, request: ModelRequest, failures: FailureFactory) -> bytes:
        return body(request, self._blocks, failures)

    def answer(self, failures: FailureFactory, content_type: str, wait: float | None) -> Answer:
        return Answer(failures, content_type, wait)

    def is_complete(self, body: bytes) -> bool:
        return json_text.loads(body) is not None
