"""No body makes one of the smaller endpoints fail: it answers, or says what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .client import BEARER
from .test_fuzz import FUZZ, TEXTS, VALUES, Fuzzed, changed, fuzzed, places

__all__ = ["fuzzed"]

GOOD: dict[str, dict[str, Any]] = {
    "/v1/completions": {
        "model": "opensoul",
        "prompt": ["Say hello."],
        "suffix": "",
        "echo": True,
        "n": 1,
        "best_of": 1,
        "logprobs": None,
        "logit_bias": {"1": 1},
        "max_tokens": 5,
        "stop": ["a"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 1,
        "user": "alice",
    },
    "/v1/embeddings": {
        "model": "embed-2",
        "input": ["a", "bb"],
        "encoding_format": "base64",
        "dimensions": 2,
        "input_type": "query",
        "user": "alice",
    },
}
"""A body that each endpoint answers."""

each_endpoint = pytest.mark.parametrize("path", list(GOOD))


async def send(fuzzed: Fuzzed, path: str, value: Any) -> int:
    body = json.dumps(value).encode()
    headers = {**BEARER, "Content-Type": "application/json"}
    response = await fuzzed.client.post(path, data=body, headers=headers)
    answered = await response.get_data(as_text=False)
    assert response.status_code in (200, 400, 404, 413), (body, answered)
    if response.status_code != 200:
        assert set(json.loads(answered)["error"]) == {"message", "type", "param", "code"}
    return response.status_code


@each_endpoint
async def test_the_good_body_is_good(fuzzed: Fuzzed, path: str) -> None:
    assert await send(fuzzed, path, GOOD[path]) == 200


@each_endpoint
@FUZZ
@given(value=VALUES)
async def test_any_json(fuzzed: Fuzzed, path: str, value: Any) -> None:
    await send(fuzzed, path, value)


@each_endpoint
@FUZZ
@given(data=st.data(), value=VALUES)
async def test_anything_at_every_place(
    fuzzed: Fuzzed, path: str, data: st.DataObject, value: Any
) -> None:
    place = data.draw(st.sampled_from(places(GOOD[path])))
    await send(fuzzed, path, changed(GOOD[path], place, value))


@each_endpoint
@FUZZ
@given(data=st.data())
async def test_any_fields(fuzzed: Fuzzed, path: str, data: st.DataObject) -> None:
    names = st.sampled_from(sorted(GOOD[path])) | TEXTS
    await send(fuzzed, path, GOOD[path] | data.draw(st.dictionaries(names, VALUES)))
