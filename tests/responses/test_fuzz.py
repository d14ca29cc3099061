"""No body, whatever it holds, makes the endpoint fail: it answers, or says what is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensoul.adapters.transports.openai.responses.request import NEUTRAL, Fields
from tests.http.app import Harness
from tests.http.test_fuzz import FUZZ, TEXTS, VALUES, Fuzzed, changed, places

from .client import RESPONSES
from .conftest import responses_on

NAMES = sorted(Fields.model_fields.keys() | NEUTRAL.keys() | {"input", "tools", "tool_choice"})
GOOD: dict[str, Any] = {
    "model": "opensoul",
    "instructions": "i",
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "input": [
        {"role": "system", "content": "s"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {
            "type": "reasoning",
            "id": "r",
            "summary": [{"type": "summary_text", "text": "t"}],
            "content": [{"type": "reasoning_text", "text": "t"}],
            "encrypted_content": "e",
        },
        {
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "a", "annotations": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "1",
            "output": [{"type": "input_file", "file_data": "eA==", "filename": "x.txt"}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "input_file",
                    "source": {"type": "base64", "media_type": "text/plain", "data": "eA=="},
                }
            ],
        },
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
        {"type": "function", "function": {"name": "g"}},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "f"}],
    },
    "text": {"format": {"type": "text"}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "include": ["reasoning.encrypted_content"],
    "conversation": None,
    "max_output_tokens": 16,
}


@pytest.fixture
async def fuzzed() -> AsyncIterator[Fuzzed]:
    fuzzed = Fuzzed(Harness(responses_on()), RESPONSES)
    await fuzzed.harness.store.open()
    yield fuzzed
    await fuzzed.harness.gateway.drain(1)


async def test_the_good_body_is_good(fuzzed: Fuzzed) -> None:
    assert await fuzzed.ask(json.dumps(GOOD).encode()) == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"input"', b"{}"])
async def test_what_is_no_request_is_refused(fuzzed: Fuzzed, body: bytes) -> None:
    assert await fuzzed.ask(body) == 400


@FUZZ
@given(fields=st.dictionaries(st.sampled_from(NAMES) | TEXTS, VALUES, max_size=6))
async def test_any_fields(fuzzed: Fuzzed, fields: dict[str, Any]) -> None:
    await fuzzed.ask(json.dumps(GOOD | fields).encode())


@FUZZ
@given(path=st.sampled_from(places(GOOD)), value=VALUES)
async def test_anything_at_every_place(fuzzed: Fuzzed, path: tuple[Any, ...], value: Any) -> None:
    await fuzzed.ask(json.dumps(changed(GOOD, path, value)).encode())
