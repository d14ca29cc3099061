"""Tools of the client and of the agent, reasoning and approvals in Anthropic's Messages API, with
the real application."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from opensoul.domain.tools import run_of_call
from tests.app.serving import SECRET, Served, config, serving
from tests.approvals.office import ARGUMENTS, Courier, calls, installed
from tests.fakes import anthropic
from tests.fakes.behaviours import answer
from tests.fakes.provider import FakeProvider

from .test_client_tools import MIXED, TOOLS, assert_paired, calling, conversation_of, sent
from .test_client_tools import call as called

WEATHER = {
    "name": "weather",
    "description": "The weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
QUESTION = {"role": "user", "content": "How is Bern?"}
GATEWAY = {
    "auth": {"token": SECRET},
    "http": {"endpoints": {"messages": {"enabled": True}}},
}


@asynccontextmanager
async def gateway(home: Path, provider: FakeProvider, **more: Any) -> AsyncIterator[Served]:
    defaults = {"model": {"primary": "fake/m"}, "workspace": str(home / "workspace")}
    sections = {"agents": {"defaults": defaults}, "gateway": GATEWAY, **TOOLS, **more}
    async with serving(home, config(provider.base_url, **sections)) as served:
        yield served


@pytest_asyncio.fixture
async def fake_provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest_asyncio.fixture
async def served(tmp_path: Path, fake_provider: FakeProvider) -> AsyncIterator[Served]:
    async with gateway(tmp_path, fake_provider) as served:
        yield served


async def post(
    served: Served, headers: Mapping[str, str] | None = None, path: str = "", **fields: Any
) -> dict[str, Any]:
    body = {"model": "opensoul", "max_tokens": 4096, "messages": [QUESTION], **fields}
    sent = {"x-api-key": SECRET, **(headers or {})}
    async with served.client.post(f"/v1/messages{path}", json=body, headers=sent) as response:
        whole: dict[str, Any] = await response.json()
        assert response.status == 200, whole
        return whole


def results(message: Mapping[str, Any], text: str = "sunny") -> list[dict[str, Any]]:
    """The messages with which a client answers: what it was sent, and a result of each call."""
    answers = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": text}
        for block in message["content"]
        if block["type"] == "tool_use"
    ]
    assistant = {"role": "assistant", "content": message["content"]}
    return [assistant, {"role": "user", "content": answers}]


async def test_the_client_gets_its_calls_and_the_turn_goes_on(
    served: Served, fake_provider: FakeProvider
) -> None:
    fake_provider.will(calling(called("weather", {"city": "Bern"}), text="I look."))
    first = await post(served, tools=[WEATHER])

    text, call = first["content"]
    assert (text["text"], first["stop_reason"]) == ("I look.", "tool_use")
    assert (call["name"], call["input"]) == ("weather", {"city": "Bern"})
    assert run_of_call(call["id"]) is not None
    offered = {tool["function"]["name"] for tool in sent(fake_provider)["tools"]}
    assert offered == {"read", "write", "weather"}

    fake_provider.will(answer("It is sunny."))
    second = await post(served, messages=[QUESTION, *results(first)], tools=[WEATHER])

    assert second["content"] == [{"type": "text", "text": "It is sunny."}]
    assert second["stop_reason"] == "end_turn"
    assert_paired(sent(fake_provider)["messages"])


@pytest.mark.parametrize("session", [None, "trip"])
async def test_a_step_with_both_kinds_keeps_the_agents_results(
    served: Served, fake_provider: FakeProvider, session: str | None
) -> None:
    headers = {} if session is None else {"x-opensoul-session-key": session}
    fake_provider.will(MIXED)
    first = await post(served, headers, tools=[WEATHER])
    names = [block["name"] for block in first["content"] if block["type"] == "tool_use"]
    assert names == ["weather"]

    fake_provider.will(answer("Done."))
    assistant, user = results(first)
    user["content"].append({"type": "text", "text": "And Basel?"})
    messages = [QUESTION, assistant, user] if session is None else [user]
    second = await post(served, headers, messages=messages, tools=[WEATHER])

    assert second["content"][0]["text"] == "Done."
    conversation = conversation_of(fake_provider)
    assert_paired(conversation)
    made = [one["function"]["name"] for one in conversation[1]["tool_calls"]]
    assert made == ["read", "weather"]
    roles = [message["role"] for message in conversation]
    assert roles == ["user", "assistant", "tool", "tool", "user"]
    assert "a.txt" in conversation[2]["content"]
    assert conversation[3]["content"] == "sunny"


async def test_signed_reasoning_goes_back_to_its_provider(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        fake = {
            "baseUrl": provider.base_url.removesuffix("/v1"),
            "api": "anthropic-messages",
            "apiKey": "key",
            "models": [{"id": "claude-sonnet-4-5", "reasoning": True}],
        }
        models = {"providers": {"fake": fake}}
        defaults = {"model": {"primary": "fake/claude-sonnet-4-5"}}
        content = {"models": models, "agents": {"defaults": defaults}}
        async with gateway(tmp_path, provider, **content) as served:
            thought = anthropic.thought("Where is it?")
            call = anthropic.call("t1", "weather", {"city": "Bern"})
            provider.will(anthropic.strict(anthropic.message(thought, call)))
            thinking = {"type": "enabled", "budget_tokens": 2048}
            fields: dict[str, Any] = {"tools": [WEATHER], "thinking": thinking, "top_k": 5}
            first = await post(served, **fields)

            assert [block["type"] for block in first["content"]] == ["thinking", "tool_use"]
            assert first["content"][0]["thinking"] == "Where is it?"
            assert provider.requests[0].json["thinking"]["type"] == "enabled"

            provider.will(anthropic.strict(anthropic.message(anthropic.text("Sunny."))))
            messages = [QUESTION, *results(first)]
            second = await post(served, messages=messages, **fields)

            assert second["content"] == [{"type": "text", "text": "Sunny."}]
            returned = provider.requests[1].json["messages"][1]["content"]
            assert thought in returned


async def test_a_client_of_the_api_gets_what_an_anthropic_provider_counts(tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        fake = {
            "baseUrl": provider.base_url.removesuffix("/v1"),
            "api": "anthropic-messages",
            "apiKey": "key",
            "models": [{"id": "m"}],
        }
        async with gateway(tmp_path, provider, models={"providers": {"fake": fake}}) as served:
            ended = anthropic.message(anthropic.text("Sunny."), stop_sequence="END")
            provider.will(anthropic.strict(ended))
            whole = await post(served, top_k=5, temperature=0.5, stop_sequences=["END"])

    sent = provider.requests[0].json
    assert (sent["top_k"], sent["temperature"], sent["stop_sequences"]) == (5, 0.5, ["END"])
    assert (whole["stop_reason"], whole["stop_sequence"]) == ("stop_sequence", "END")
    assert whole["usage"]["cache_read_input_tokens"] == 100
    assert whole["usage"]["cache_creation_input_tokens"] == 20
    assert whole["usage"]["input_tokens"] == 7
    assert whole["usage"]["output_tokens"] == anthropic.OUTPUT_TOKENS


async def test_an_approval_is_decided_in_the_conversation(
    tmp_path: Path, fake_provider: FakeProvider
) -> None:
    courier = Courier()
    tools = {"allow": ["send"]}
    content = config(fake_provider.base_url, gateway=GATEWAY, tools=tools)
    parts = {"find_plugins": installed(courier=courier)}
    async with serving(tmp_path, content, **parts) as served:
        fake_provider.will(calls(), answer("It is sent."))
        asked = await post(served)
        text = asked["content"][0]["text"]
        assert json.dumps(ARGUMENTS) in text
        decision = next(line for line in text.splitlines() if line.startswith("approve "))

        approved = await post(served, messages=[{"role": "user", "content": decision}])

    assert approved["content"] == [{"type": "text", "text": "It is sent."}]
    assert approved["id"] == asked["id"]
    assert courier.sent == [ARGUMENTS]


async def test_the_agents_prompt_and_its_tools_count(
    tmp_path: Path, served: Served, fake_provider: FakeProvider
) -> None:
    with_tools = await post(served, path="/count_tokens")
    (tmp_path / "workspace").mkdir(exist_ok=True)
    (tmp_path / "workspace" / "AGENTS.md").write_text("Be brief. " * 300)
    with_file = await post(served, path="/count_tokens")

    assert with_tools["input_tokens"] > 100
    assert with_file["input_tokens"] - with_tools["input_tokens"] > 900
    assert fake_provider.requests == []
