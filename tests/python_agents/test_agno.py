"""Agents of Agno, through the chat endpoint of a real Gateway."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.app.serving import serving
from tests.fakes.behaviours import answer, fail, hang_after, json_instead_of_sse
from tests.fakes.provider import FakeProvider
from tests.python_agents.conftest import Write, configured
from tests.python_agents.frameworks import PICTURE, calls, events_of, says, usage_of
from tests.python_agents.test_functions import streamed, text_of

pytest.importorskip("agno", reason="`make test-frameworks` installs it")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PROCESS = {"isolation": "process"}
"""All agents of Agno in a process share a client of models, which belongs to one event loop."""
HEAD = """
    from agno.agent import Agent
    from agno.run import RunContext
    from agno.models.openai.like import OpenAILike
    from agno.tools import tool
    model = OpenAILike(id="m", base_url="{url}", api_key="none", max_retries=0)
    def weather(city: str, run_context: RunContext) -> str:
        "The weather in a city."
        if city == "Atlantis":
            raise LookupError("no such city")
        return f"sunny in {{city}} for {{run_context.dependencies['opensoul'].agent_id}}"
"""
AGENT = """
    agent = Agent(model=model, tools=[weather], instructions="Be brief.")
"""


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
def agent(write: Write, provider: FakeProvider) -> Any:
    """Writes a module with an agent on the fake provider; its target."""

    def module(text: str) -> str:
        return f"{write((HEAD + text).format(url=provider.base_url))}:agent"

    return module


async def test_an_agent_answers_with_its_tool(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    content = configured({"target": agent(AGENT), **PROCESS})
    provider.will(
        calls(("weather", {"city": "Paris"}), text="I look. "),
        answer("It is", " sunny.", reasoning=["Hm."]),
        calls(("weather", {"city": "Rome"})),
        answer("Also", " sunny."),
    )

    async with serving(tmp_path, content) as served:
        messages = [{"role": "system", "content": "Be kind."}, *says("Paris?")]
        async with served.ask(messages=messages, temperature=0.25) as response:
            whole = await response.json()
            assert response.status == 200, whole
            events = await events_of(served, response.headers["x-opensoul-run-id"])
        chunks = await streamed(
            served, messages=says("Rome?"), stream_options={"include_usage": True}
        )

    assert whole["choices"][0]["message"]["content"] == "I look. It is sunny."
    assert {name: whole["usage"][name] for name in usage_of(2)} == usage_of(2)
    assert text_of(chunks) == "Also sunny."
    assert {name: chunks[-1]["usage"][name] for name in usage_of(2)} == usage_of(2)
    started, finished = [event for event in events if event["type"].startswith("tool_")]
    assert (started["type"], started["name"]) == ("tool_started", "weather")
    assert json.loads(started["arguments"]) == {"city": "Paris"}
    assert (finished["type"], finished["text"]) == ("tool_finished", "sunny in Paris for main")
    assert "Hm." in [event.get("delta") for event in events if event["type"] == "reasoning_delta"]
    first, later = provider.requests[0].json, provider.requests[2].json
    assert first["temperature"] == 0.25
    assert "temperature" not in later
    assert "Be kind." in first["messages"][0]["content"]
    assert "Be kind." not in later["messages"][0]["content"]


async def test_a_session_has_its_history_with_tools_and_images(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(
        calls(("weather", {"city": "Paris"})), answer("It is sunny."), answer("A dot."), answer("3")
    )
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    shown = [{"role": "user", "content": [{"type": "text", "text": "And this?"}, image]}]

    async with serving(tmp_path, configured({"target": agent(AGENT), **PROCESS})) as served:
        for question in (says("Paris?"), shown, says("How many?")):
            await served.text(messages=question, user="ada")

    last = provider.requests[-1].json["messages"][1:]
    assert [message["role"] for message in last] == [
        *("user", "assistant", "tool", "assistant", "user", "assistant", "user"),
    ]
    (call,) = last[1]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert (last[2]["tool_call_id"], last[2]["content"]) == (call["id"], "sunny in Paris for main")
    assert PICTURE in json.dumps(last[4]["content"])


async def test_a_client_that_leaves_closes_the_connection_of_the_model(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(hang_after("It"))

    async with serving(tmp_path, configured({"target": agent(AGENT), **PROCESS})) as served:
        async with served.ask(stream=True) as response:
            await response.content.readuntil(b'"It"')
            request = await provider.arrival()
        async with asyncio.timeout(30):
            await request.disconnected.wait()


async def test_what_a_tool_raises_goes_to_the_model(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(calls(("weather", {"city": "Atlantis"})), answer("It is lost."))

    async with (
        serving(tmp_path, configured({"target": agent(AGENT), **PROCESS})) as served,
        served.ask() as response,
    ):
        whole = await response.json()
        events = await events_of(served, response.headers["x-opensoul-run-id"])

    assert whole["choices"][0]["message"]["content"] == "It is lost."
    finished = [event for event in events if event["type"] == "tool_finished"]
    assert [event["is_error"] for event in finished] == [True]


async def test_the_failure_of_the_model_fails_the_run(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.default = fail(429)

    async with (
        serving(tmp_path, configured({"target": agent(AGENT), **PROCESS})) as served,
        served.ask() as response,
    ):
        body = await response.json()

    assert response.status == 502
    assert "RunError" in body["error"]["message"]


REVIEWED = """
    @tool(requires_confirmation=True)
    def send(city: str) -> str:
        "Send a card."
        return f"sent from {{city}}"
    agent = Agent(model=model, tools=[send])
"""


@pytest.mark.parametrize("verb", ["approve", "deny"])
async def test_a_confirmation_is_an_approval(
    verb: str, agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(calls(("send", {"city": "Paris"}), text="I send. "), answer("Done."))
    content = configured({"target": agent(REVIEWED), **PROCESS})

    async with serving(tmp_path, content) as served:
        asked = await served.text(messages=says("Send."), user="ada")
        (code,) = re.findall(r"^approve ([A-Z0-9-]{8,})$", asked, re.MULTILINE)
        assert len(provider.requests) == 1
    async with (
        serving(tmp_path, content) as served,
        served.ask(messages=says(f"{verb} {code}"), user="ada") as response,
    ):
        decided = await response.json()
        assert response.status == 200, decided
        events = await events_of(served, response.headers["x-opensoul-run-id"])

    assert decided["choices"][0]["message"]["content"] == "Done."
    assert decided["usage"]["total_tokens"] == usage_of(2)["total_tokens"]
    result = provider.requests[1].json["messages"][-1]
    assert result["role"] == "tool"
    assert ("sent from Paris" in result["content"]) == (verb == "approve")
    tools = [event["type"] for event in events if event["type"].startswith("tool_")]
    assert tools == ["tool_started", "tool_finished"]


async def test_calls_of_the_clients_tools_are_handed_out(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    provider.will(calls(("look", {"at": "sky"})), answer("It is blue."))
    parameters = {"type": "object", "properties": {"at": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]

    async with serving(tmp_path, configured({"target": agent(AGENT), **PROCESS})) as served:
        async with served.ask(messages=says("What is up?"), tools=tools) as response:
            choice = (await response.json())["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "blue"}
        messages = [*says("What is up?"), choice["message"], result]
        text = await served.text(messages=messages, tools=tools)

    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(call["function"]["arguments"]) == {"at": "sky"}
    assert text == "It is blue."


async def test_the_format_that_a_request_requires_reaches_the_model(
    agent: Any, provider: FakeProvider, tmp_path: Path
) -> None:
    output = json.dumps({"city": "Paris"})
    provider.will(json_instead_of_sse(output))  # Agno does not stream such answers.
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    required = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}

    async with serving(tmp_path, configured({"target": agent(AGENT), **PROCESS})) as served:
        text = await served.text(response_format=required)

    assert json.loads(text) == json.loads(output)
    assert provider.requests[0].json["response_format"]["type"].startswith("json_")
