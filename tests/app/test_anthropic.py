"""A Gateway whose agent is on a provider with the Messages API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from examples.phone_book_tools import PhoneBook
from tests.app.serving import Served, config, serving
from tests.app.serving import provider as fake
from tests.fakes import anthropic
from tests.fakes.anthropic import message, refuse, strict
from tests.fakes.provider import FakeProvider


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(strict(message(anthropic.text("Hello there")))) as provider:
        yield provider


@pytest.fixture
async def served(tmp_path: Path, provider: FakeProvider) -> AsyncIterator[Served]:
    model = {"id": "m", "reasoning": True, "params": {"reasoning_effort": "low"}}
    entry = fake(provider.base_url, api="anthropic-messages", apiKey="sk-ant-secret")
    content = config(provider.base_url) | {
        "models": {"providers": {"fake": entry | {"models": [model]}}}
    }
    async with serving(tmp_path, content, toolbox=providers.Object(PhoneBook())) as served:
        yield served


async def streamed(served: Served, **body: Any) -> tuple[str, list[dict[str, Any]]]:
    """The text of a stream, and its chunks."""
    async with served.ask(stream=True, **body) as response:
        lines = (await response.text()).splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    chunks = [json.loads(one) for one in data]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas), chunks


def tool_steps(provider: FakeProvider) -> None:
    """Queue a call of a tool, and the answer."""
    first = [anthropic.thought("Who is it?"), anthropic.text("I look.")]
    calls = [
        anthropic.call("toolu_1", "look_up_extension", {"name": "ada"}),
        anthropic.call("toolu_2", "look_up_extension", {"name": "grace"}),
    ]
    provider.will(strict(message(*first, *calls)))
    provider.will(strict(message(anthropic.text("1815 and 1906."))))


async def test_an_agent_answers_in_one_piece(served: Served, provider: FakeProvider) -> None:
    async with served.ask() as response:
        answer = await response.json()

    assert answer["choices"][0]["message"]["content"] == "Hello there"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 127
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 100}
    assert provider.requests[0].headers["x-api-key"] == "sk-ant-secret"


async def test_an_agent_answers_as_a_stream(served: Served) -> None:
    text, chunks = await streamed(served)

    assert text == "Hello there"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_agent_calls_tools_while_it_thinks(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    """And goes on in its session: the strict provider accepts each request."""
    for _ in range(2):
        tool_steps(provider)
        if stream:
            text, _chunks = await streamed(served, user="alice")
        else:
            text = await served.text(user="alice")
        assert text.endswith("1815 and 1906.")

    second, fourth = provider.requests[1].json, provider.requests[3].json
    assert second["thinking"]["type"] == fourth["thinking"]["type"] == "enabled"
    _question, step, results = second["messages"]
    kinds = [block["type"] for block in step["content"]]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    texts = [block["content"][0]["text"] for block in results["content"]]
    assert texts == ["ada: 1815", "grace: 1906"]
    assert len(fourth["messages"]) == 7


@pytest.mark.parametrize("stream", [True, False])
async def test_an_object_is_required_of_an_api_without_the_parameter(
    served: Served, provider: FakeProvider, stream: bool
) -> None:
    """By an instruction and the check; the strict provider accepts the repair."""
    tool_steps(provider)
    good = '{"ada": 1815, "grace": 1906}'
    provider.will(strict(message(anthropic.text(good))))
    wanted = {"type": "json_object"}
    if stream:
        text, _chunks = await streamed(served, response_format=wanted)
    else:
        text = await served.text(response_format=wanted)

    assert text == good
    first, _, repair = (request.json for request in provider.requests)
    assert "one JSON object and nothing else" in first["system"][-1]["text"]
    assert "1815 and 1906." in json.dumps(repair["messages"][-2])


async def test_a_refusal_of_the_provider_is_a_status(
    served: Served, provider: FakeProvider
) -> None:
    provider.will(refuse("rate_limit_error", "Too many tokens", 429, {"retry-after": "3"}))
    async with served.ask() as response:
        answer = await response.json()

    assert response.status == 429
    assert response.headers["Retry-After"] == "3"
    assert "sk-ant-secret" not in json.dumps(answer)
