"""No body, whatever it holds, makes conversations and compaction fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.app import Harness
from tests.http.test_fuzz import FUZZ, TEXTS, VALUES, Fuzzed, changed, places

from .conftest import responses_on

ITEMS: list[dict[str, Any]] = [
    {"type": "message", "role": "user", "content": "x", "id": "msg_1"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "x"},
    {"type": "compaction", "encrypted_content": "opensoul-1:SGVsbG8="},
]
GOOD: dict[str, dict[str, Any]] = {
    "/v1/conversations": {"items": ITEMS, "metadata": {"a": "b"}},
    "/v1/responses/compact": {"model": "opensoul", "input": ITEMS, "instructions": "i"},
}
PLACES = [(path, place) for path, body in GOOD.items() for place in places(body)]


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    harness = Harness(responses_on())
    await harness.store.open()
    yield harness
    await harness.gateway.drain(1)


@pytest.mark.parametrize("path", GOOD)
async def test_the_good_body_is_good(harness: Harness, path: str) -> None:
    assert await Fuzzed(harness, path).ask(json.dumps(GOOD[path]).encode()) == 200


@pytest.mark.parametrize("path", GOOD)
@FUZZ
@given(fields=st.dictionaries(st.sampled_from(["items", "input", "metadata"]) | TEXTS, VALUES))
async def test_any_fields(harness: Harness, path: str, fields: dict[str, Any]) -> None:
    await Fuzzed(harness, path).ask(json.dumps(GOOD[path] | fields).encode())


@FUZZ
@given(where=st.sampled_from(PLACES), value=VALUES)
async def test_anything_at_every_place(
    harness: Harness, where: tuple[str, tuple[Any, ...]], value: Any
) -> None:
    path, place = where
    await Fuzzed(harness, path).ask(json.dumps(changed(GOOD[path], place, value)).encode())
