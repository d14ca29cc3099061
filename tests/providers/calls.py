"""How the tests of the model clients call them."""

from __future__ import annotations

from collections.abc import Mapping

from opensoul.domain.errors import ModelFailed
from opensoul.domain.messages import Message, Role, text_message
from opensoul.domain.models.calls import (
    Compat,
    ModelEvent,
    ModelRequest,
    ModelTarget,
    Provider,
    ReasoningDelta,
    Secret,
    TextDelta,
)
from opensoul.domain.ports import ModelClient

KEY = "sk-very-secret-0123456789"


def call(
    base_url: str = "http://127.0.0.1:9/v1",
    *messages: Message,
    params: Mapping[str, object] | None = None,
    target_params: Mapping[str, object] | None = None,
    compat: Compat | None = None,
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
    auth_header: bool = True,
    connect_timeout: float = 5.0,
    idle_timeout: float = 5.0,
    api: str = "openai-completions",
    proxy: str | None = None,
    max_answer_bytes: int = 32 * 1024 * 1024,
) -> ModelRequest:
    """A call of the model `tiny` at the provider `acme`; without messages, a user says "Hi"."""
    provider = Provider(
        id="acme",
        api=api,
        base_url=base_url,
        api_key=None if key is None else Secret(key),
        headers=tuple((name, Secret(value)) for name, value in (headers or {}).items()),
        auth_header=auth_header,
        connect_timeout=connect_timeout,
        idle_timeout=idle_timeout,
        proxy=None if proxy is None else Secret(proxy),
        max_answer_bytes=max_answer_bytes,
    )
    target = ModelTarget(
        provider,
        "tiny",
        params=tuple((target_params or {}).items()),
        compat=compat or Compat(),
    )
    return ModelRequest(target, messages or (text_message(Role.USER, "Hi"),), params or {})


async def collect(client: ModelClient, request: ModelRequest) -> list[ModelEvent]:
    """Every event of a call that succeeds."""
    return [event async for told in client.stream(request) for event in told]


async def failure(
    client: ModelClient, request: ModelRequest
) -> tuple[list[ModelEvent], ModelFailed]:
    """What came before the failure of a call, and the failure."""
    events: list[ModelEvent] = []
    try:
        async for told in client.stream(request):
            events += told
    except ModelFailed as error:
        return events, error
    raise AssertionError(f"the call succeeded: {events}")


def text_of(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def thought_of(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))
