"""No body, whatever it holds, makes the endpoints of Anthropic's API fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.models import TextDelta
from opensoul.domain.settings import EndpointSettings

from .app import HELLO, Harness
from .client import BEARER
from .test_fuzz import FUZZ, TEXTS, VALUES, changed, places

GOOD: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 100,
    "stream": True,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "x", "citations": None},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [{"type": "text", "text": "x"}],
                    "is_error": False,
                },
                {"type": "text", "text": "y"},
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "z"},
                    "title": "t",
                    "context": "c",
                    "citations": {"enabled": False},
                },
                {
                    "type": "document",
                    "source": {"type": "content", "content": [{"type": "text", "text": "z"}]},
                },
                {
                    "type": "search_result",
                    "title": "t",
                    "source": "s",
                    "content": [{"type": "text", "text": "z"}],
                },
            ],
        },
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "stop_sequences": ["a"],
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
}
TYPES = {"invalid_request_error", "not_found_error", "request_too_large"}


class Fuzzed:
    """One application, asked without a socket: the wire is not what is tried here."""

    def __init__(self) -> None:
        self.harness = Harness()
        on = EndpointSettings(messages=True)
        self.harness.settings = replace(self.harness.settings, endpoints=on)
        self.harness.model.script = (TextDelta("{}"), HELLO[-1])
        self.client = self.harness.app.test_client()

    async def ask(self, body: bytes) -> int:
        counted = await self._ask("/v1/messages/count_tokens", body)
        answered = await self._ask("/v1/messages", body)
        assert answered != 200 or counted == 200
        return answered

    async def _ask(self, path: str, body: bytes) -> int:
        response = await self.client.post(path, data=body, headers=BEARER)
        answered = await response.get_data(as_text=False)
        assert response.status_code in (200, 400, 404, 413, 415), (body, answered)
        if response.status_code != 200:
            assert json.loads(answered)["error"]["type"] in TYPES
        return response.status_code


@pytest.fixture
async def fuzzed() -> AsyncIterator[Fuzzed]:
    fuzzed = Fuzzed()
    await fuzzed.harness.store.open()
    yield fuzzed
    await fuzzed.harness.gateway.drain(1)


async def test_the_good_body_is_good(fuzzed: Fuzzed) -> None:
    assert await fuzzed.ask(json.dumps(GOOD).encode()) == 200


@FUZZ
@given(value=VALUES)
async def test_any_json(fuzzed: Fuzzed, value: Any) -> None:
    await fuzzed.ask(json.dumps(value).encode())


@FUZZ
@given(fields=st.dictionaries(st.sampled_from(sorted(GOOD)) | TEXTS, VALUES, max_size=6))
async def test_any_fields(fuzzed: Fuzzed, fields: dict[str, Any]) -> None:
    await fuzzed.ask(json.dumps(GOOD | fields).encode())


@FUZZ
@given(path=st.sampled_from(places(GOOD)), value=VALUES)
async def test_anything_at_every_place(fuzzed: Fuzzed, path: tuple[Any, ...], value: Any) -> None:
    await fuzzed.ask(json.dumps(changed(GOOD, path, value)).encode())
