"""No body, whatever it holds, makes the endpoint fail: it answers, or says what is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opensoul.adapters.transports.openai.chat.request import NEUTRAL, PASSED_ON
from opensoul.domain.models import TextDelta
from tests.examples import examples

from .app import HELLO, Harness
from .client import BEARER, CHAT

TEXTS = st.text(st.characters(codec=None, categories=("L", "N", "P", "Z", "Cc", "Cs", "So")))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
NAMES = sorted(
    PASSED_ON | NEUTRAL.keys() | {"model", "messages", "stream", "stream_options", "user"}
)

GOOD: dict[str, Any] = {
    "model": "opensoul",
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "Ann"},
        {
            "role": "assistant",
            "content": None,
            "refusal": "no",
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
            "function_call": {"name": "f", "arguments": ""},
        },
        {"role": "tool", "tool_call_id": "1", "content": "t"},
        {"role": "function", "name": "f", "content": "t"},
        {"role": "user", "content": "y"},
    ],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "metadata": {"a": "b"},
    "logit_bias": {"1": 1},
    "stop": ["a"],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in `value`."""
    inner: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        inner = [place for key in value for place in places(value[key], (*path, key))]
    elif isinstance(value, list):
        inner = [place for i, item in enumerate(value) for place in places(item, (*path, i))]
    return [*([path] if path else []), *inner]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


class Fuzzed:
    """One application, asked without a socket: the wire is not what is tried here."""

    def __init__(self, harness: Harness, path: str = CHAT) -> None:
        self.harness = harness
        self.path = path
        # An answer in every format that a request may require here.
        self.harness.model.script = (TextDelta("{}"), HELLO[-1])
        self.client = self.harness.app.test_client()

    async def ask(self, body: bytes, headers: dict[str, str] | None = None) -> int:
        response = await self.client.post(
            self.path, data=body, headers={**BEARER, **(headers or {})}
        )
        answered = await response.get_data(as_text=False)
        assert response.status_code in (200, 400, 404, 413, 415), (body, answered)
        if response.status_code != 200:
            assert set(json.loads(answered)["error"]) == {"message", "type", "param", "code"}
        return response.status_code


@pytest.fixture
async def fuzzed() -> AsyncIterator[Fuzzed]:
    fuzzed = Fuzzed(Harness())
    await fuzzed.harness.store.open()
    yield fuzzed
    await fuzzed.harness.gateway.drain(1)


FUZZ = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def test_the_good_body_is_good(fuzzed: Fuzzed) -> None:
    assert await fuzzed.ask(json.dumps(GOOD).encode()) == 200


@FUZZ
@given(body=st.binary(max_size=200))
async def test_any_bytes(fuzzed: Fuzzed, body: bytes) -> None:
    await fuzzed.ask(body)


@FUZZ
@given(value=VALUES)
async def test_any_json(fuzzed: Fuzzed, value: Any) -> None:
    await fuzzed.ask(json.dumps(value).encode())


@FUZZ
@given(fields=st.dictionaries(st.sampled_from(NAMES) | TEXTS, VALUES, max_size=6))
async def test_any_fields(fuzzed: Fuzzed, fields: dict[str, Any]) -> None:
    await fuzzed.ask(json.dumps(GOOD | fields).encode())


@FUZZ
@given(path=st.sampled_from(places(GOOD)), value=VALUES)
async def test_anything_at_every_place(fuzzed: Fuzzed, path: tuple[Any, ...], value: Any) -> None:
    await fuzzed.ask(json.dumps(changed(GOOD, path, value)).encode())


@FUZZ
@given(
    cut=st.integers(0, len(json.dumps(GOOD))),
    junk=st.binary(max_size=8),
    skipped=st.integers(0, 8),
)
async def test_a_body_with_a_dent(fuzzed: Fuzzed, cut: int, junk: bytes, skipped: int) -> None:
    body = json.dumps(GOOD).encode()
    await fuzzed.ask(body[:cut] + junk + body[cut + skipped :])


@FUZZ
@given(
    name=st.sampled_from(
        ["x-opensoul-session-key", "x-opensoul-agent-id", "content-type", "x-request-id"]
    ),
    value=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=80),
)
async def test_any_header(fuzzed: Fuzzed, name: str, value: str) -> None:
    await fuzzed.ask(json.dumps(GOOD).encode(), {name: value})
